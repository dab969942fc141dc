"""Rows of runs into one result file: `python -m experiments.collect RESULT.csv outputs/<date>/<time> ...`.

The rows say themselves which command, version, machine and date made them. A row that is there already is replaced; those of
older files have fewer columns and stay.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from pathlib import Path

from kernelsr.files import write_text_atomically
from kernelsr.results import COLUMNS, SAME

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
    old = _rows(options.result) if options.result.exists() else []
    rows = {tuple(row.get(column) for column in SAME): row for path in tables for row in _rows(path)}
    kept = [row for row in old if tuple(row.get(column) for column in SAME) not in rows]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows([*kept, *rows.values()])
    write_text_atomically(options.result, text.getvalue())
    print(f"{len(rows)} rows into {options.result}, which has {len(kept) + len(rows)}")


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    main()
