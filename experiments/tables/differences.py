"""Paired differences of every method against one, with a bootstrap interval over photographs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence

from experiments.tables.layout import Cell, Head, Table
from experiments.tables.lines import COLUMNS, Place, value
from experiments.tables.naming import without_settings
from experiments.tables.notes import place_of
from experiments.tables.records import Record
from kernelsr.statistics import FEWEST, Difference, paired_difference
from kernelsr.tables import Column

METRICS = ("final_psnr", "kernel_psnr", "variance_error")
NAMES = {"final_psnr": "Δ PSNR", "kernel_psnr": "Δ kernel PSNR", "variance_error": "Δ variance error, %"}
ALL = "all of these"
Values = dict[tuple[Hashable, Hashable, Hashable], float]


def differences(records: Sequence[Record], against: str, title: str) -> Table:
    """Each method minus ``against``, paired over image x seed x data x scale: in each place, and over all places.

    Raises:
        ValueError: there is no such method, or there are several.
    """
    rows = [row for row in records if not row.error and not row.floor]
    against = _named(against, {row.method for row in rows})
    places: dict[Place, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        places[row.data, row.noise, row.scale][row.method].append(row)
    groups = []
    together: dict[str, list[Place]] = defaultdict(list)
    for place in sorted(places, key=lambda place: (place[0], place[2], place[1])):
        methods = places[place]
        lines = []
        for method in sorted(methods.keys() - {against}) if against in methods else []:
            if line := _line(place_of(place), method, [methods[method]], [methods[against]]):
                lines.append(line)
                together[method].append(place)
        groups.append(lines)
    overall = []
    for method, where in sorted(together.items()):
        if len(where) > 1:
            mine, theirs = ([places[place][name] for place in where] for name in (method, against))
            line = _line(f"{ALL}, {len(where)}", method, mine, theirs)
            overall += [line] if line else []
    columns = [Head("data", ("data",), False), Head("method", ("method",), False)]
    columns += [Head("images", ("images",)), Head("pairs", ("pairs",))]
    columns += [Head(NAMES[key], (f"d_{key.removeprefix('final_')}", "low", "high", "better")) for key in METRICS]
    notes = [
        "in brackets the 95 % bootstrap interval of the mean, photographs resampled, "
        "seeds averaged first, then whatever else repeats one; "
        f"none below {FEWEST} images, and with few images rather too short",
        "behind the bracket on how many images the difference is above zero; a lower variance error is better",
    ]
    kept = [group for group in [*groups, overall] if group]
    return Table(f"{title}, against {against}", columns, kept, notes, repeated=1)


def _named(against: str, known: set[str]) -> str:
    """The method that is meant: by its whole name, or without its settings where that is one alone."""
    alike = [method for method in known if without_settings(method) == without_settings(against)]
    if against in known:
        return against
    if "=" not in against and len(alike) == 1:
        return alike[0]
    raise ValueError(f"there is no method {against!r} to compare with; choose one of: {'; '.join(sorted(known))}")


def _line(place: str, method: str, mine: list[list[Record]], theirs: list[list[Record]]) -> list[Cell] | None:
    """The cells of a method's differences over some places; None where nothing pairs."""
    found = {key: paired_difference(_values(mine, key), _values(theirs, key)) for key in METRICS}
    largest = max((each for each in found.values() if each), key=lambda each: each.pairs, default=None)
    if largest is None:
        return None
    numbers = [_cell(found[key], COLUMNS[key]) for key in METRICS]
    return [Cell.of(place), Cell.of(method), Cell.of(str(largest.images)), Cell.of(str(largest.pairs)), *numbers]


def _values(places: list[list[Record]], key: str) -> Values:
    """Known values by image, place and seed: a photograph at several scales, or with other kernels or noise, is one image.

    By name alone, as no two of the benchmark sets share one.
    """
    found: Values = {}
    for number, rows in enumerate(places):
        for row in rows:
            if (known := value(row.values, key)) is not None:
                found[row.image, number, row.seed] = known
    return found


def _cell(found: Difference | None, column: Column) -> Cell:
    if found is None:
        return Cell("", ("",) * 4)
    low, high = found.low, found.high
    text = _signed(found.mean, column)
    if low is not None and high is not None:
        text += f" [{_signed(low, column)}, {_signed(high, column)}]"
    text += f" {found.better}/{found.images}"
    return Cell(text, (repr(found.mean), *("" if end is None else repr(end) for end in (low, high)), str(found.better)))


def _signed(number: float, column: Column) -> str:
    return f"{'+' if number > 0 else ''}{column.show(number)}"
