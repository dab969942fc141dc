"""Rows of runs into one result file: `python -m experiments.collect RESULT.csv outputs/<date>/<time> ...`.

The rows say themselves which command, version, machine and date made them. A row that is there already is replaced, but not
by a failure; those of older files have fewer columns and stay.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from kernelsr.results import COLUMNS, SAME, Row, read_rows, write_rows

TABLES = ("rows.csv", "floors.csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="the CSV to add to")
    parser.add_argument("runs", type=Path, nargs="+", help="output folders, of runs or of sweeps")
    options = parser.parse_args()
    tables = [
        path
        for run in options.runs
        for name in TABLES
        for path in (*run.glob(name), *sorted(run.glob(f"*/{name}"), key=lambda path: (len(path.parent.name), path)))
    ]
    if not tables:
        sys.exit(f"collect: no rows.csv in {', '.join(map(str, options.runs))}; give the folders of runs or of sweeps")
    try:
        count, total = collect(options.result, tables)
    except (ValueError, OSError) as error:
        sys.exit(f"collect: {error}")
    print(f"{count} rows into {options.result}, which has {total}")


def collect(result: Path, tables: Sequence[Path]) -> tuple[int, int]:
    """Add the rows of tables to a result file; returns how many, and how many it has now.

    Raises:
        ValueError: a table is none, or damaged; the result file is then left as it is.
        OSError: the result file cannot be written.
    """
    kept = _older(result) if result.exists() else {}
    new = set()
    for path in tables:
        for row in read_rows(path):
            same = _same(row)
            new.add(same)
            if same not in kept or kept[same]["error"] or not row["error"]:
                kept.pop(same, None)
                kept[same] = row
    write_rows(result, list(kept.values()))
    return len(new), len(kept)


def _same(row: Row) -> tuple[str, ...]:
    return tuple("" if row.get(column) is None else str(row[column]) for column in SAME)


def _older(path: Path) -> dict[tuple[str, ...], Row]:
    """The rows of a result file, of whatever age, as text; by number those without a column that tells rows apart."""
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if foreign := set(reader.fieldnames or ()) - set(COLUMNS):
            raise ValueError(f"{path} has a column {min(foreign)!r}, which no run has; choose another file")
        rows = list(reader)
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path} has a row with more or fewer cells than its header, as if cut off; mend or delete it")
    whole = set(SAME) <= set(reader.fieldnames or ())
    return {_same(row) if whole else (str(number),): {"error": ""} | row for number, row in enumerate(rows)}


if __name__ == "__main__":
    main()
