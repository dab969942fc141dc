"""Rows of runs as records: of any folder of runs or result file, of whatever age, each cell once.

A cell is an image under one method, data, scale and seed.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.tables.naming import beside_of, data_of, method_of, noise_of, words_of
from kernelsr.results import METRICS

NEEDED = ("image", "method", "scale", "command")
"""Columns by which a file is known to hold such rows."""
COST = ("seconds", "peak_memory_mb", "parameters")
BESIDE = ("floor: ", "bound: ", "baseline: ")


@dataclass(frozen=True)
class Record:
    """One row.

    Args:
        data: image set and kernels, with the settings of ``data`` that are not noise.
        noise: of the kernel and of the image: settings, "" for none.
        method: as the rows call it, with the settings that are not usual. Of a floor, its name.
        family: of the kernels.
        parts: the words of the command by name.
        values: metrics that are known.
        made: version, machine and date.
        time: the same date with the time of day, where the row has it.
    """

    image: str
    data: str
    noise: tuple[str, str]
    scale: int
    method: str
    seed: int | None
    family: str
    parts: dict[str, str]
    values: dict[str, float]
    flags: tuple[str, ...]
    error: str
    made: tuple[str, str, str]
    cell: str = ""
    time: str = ""

    @property
    def floor(self) -> bool:
        return self.method.startswith(BESIDE)

    @property
    def what(self) -> tuple[Any, ...]:
        """What the row is a number of: a second row of the same is no second measurement."""
        return self.data, self.noise, self.scale, self.method, self.image, -1 if self.seed is None else self.seed

    @property
    def age(self) -> tuple[Any, ...]:
        """Of two rows of the same the greater counts: done before failed, then the later.

        Of one time, rows that know their cell, and bounds of runs that use their restorer; the rest makes it one order.
        """
        own = self.floor and f"+ {self.parts.get('nonblind')}" in self.method
        others = (self.made, sorted(self.values.items()), self.cell, self.error)
        return not self.error, self.time, bool(self.cell), own, others


def read(places: Iterable[Path]) -> tuple[list[Record], list[str]]:
    """The records of files and folders (searched to any depth), each cell once, in a fixed order; and what there is to say.

    Raises:
        ValueError: a file that was named is no such table, or a row is damaged.
        FileNotFoundError: nothing is there.
    """
    found: dict[tuple[Any, ...], Record] = {}
    differing: set[tuple[Any, ...]] = set()
    said = []
    for place in places:
        if not place.exists():
            raise FileNotFoundError(f"{place} does not exist; name folders of runs or files of rows")
        for path in sorted(place.rglob("*.csv")) if place.is_dir() else [place]:
            if place.is_dir() and not _has_rows(path):
                continue
            try:
                records = read_file(path)
            except ValueError as error:
                if not place.is_dir():
                    raise
                said.append(f"left out: {error}")
                continue
            for record in records:
                other = found.setdefault(record.what, record)
                if _contradict(record.values, other.values):
                    differing.add(record.what)
                found[record.what] = max(record, other, key=lambda each: each.age)
    for data, noise, scale, method in sorted({what[:4] for what in differing}):
        named = " ".join([data, *filter(None, noise), f"x{scale}"])
        said.append(f"there again with other numbers, the latest counts: {method}, {named}")
    return [found[what] for what in sorted(found)], said


def read_file(path: Path) -> list[Record]:
    """The records of one file.

    Raises:
        ValueError: it is no table of rows, or a row is damaged; names the line.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            if missing := [name for name in NEEDED if name not in (reader.fieldnames or ())]:
                raise ValueError(f"{path} is no table of rows; it has no column {', '.join(missing)}")
            return [_record(row, f"row {number} of {path}") for number, row in enumerate(reader, start=2)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no whole CSV file ({error})") from error


def _contradict(values: dict[str, float], others: dict[str, float]) -> bool:
    """Whether two rows of the same disagree, but for what they cost."""
    return any(
        not math.isclose(values[name], others[name], rel_tol=1e-6)
        for name in (values.keys() & others.keys()) - set(COST)
    )


def _has_rows(path: Path) -> bool:
    """Whether a file's header is that of rows; foreign tables beside them are no error."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return set(NEEDED) <= set(next(csv.reader(file), []))
    except (OSError, UnicodeDecodeError, csv.Error):
        return False


def _record(row: dict[str, Any], where: str) -> Record:
    if None in row or None in row.values():
        raise ValueError(f"{where} has more or fewer cells than its header, as if cut off; mend or delete it")
    parts = words_of(row["command"])
    try:
        scale = int(row["scale"])
        seed = int(row["seed"]) if row.get("seed") else None
        values = {name: float(row[name]) for name in METRICS if row.get(name)}
        values = {name: value for name, value in values.items() if not math.isnan(value)}
    except ValueError as error:
        raise ValueError(f"{where} cannot be read ({error}); mend or delete it") from error
    data, family = data_of(row.get("data") or parts.get("data", "demo"), parts)
    beside, time = row["method"].startswith(BESIDE), row.get("date") or ""
    method = beside_of(row["method"], parts) if beside else method_of(row["method"], parts)
    return Record(
        image=row["image"],
        data=data,
        noise=noise_of(parts),
        scale=scale,
        method=method,
        seed=seed,
        family=family,
        parts=parts,
        # A bound stands in the columns of the non-blind image where the run chose one.
        values={name.removesuffix("_nonblind"): value for name, value in values.items()} if beside else values,
        flags=tuple((row.get("flags") or "").split()),
        error=row.get("error") or "",
        made=(row.get("version") or "", row.get("machine") or "", time[:10]),
        cell=row.get("cell") or "",
        time=time,
    )
