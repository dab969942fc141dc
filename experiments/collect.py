"""Rows of runs into one result file: `python -m experiments.collect RESULT.csv 'COMMAND' outputs/<date>/<time> ...`.

Adds to each row the command that made it, and the version and date of the run, so that a number can be traced.
"""

from __future__ import annotations

import argparse
import csv
from datetime import date
from pathlib import Path

from kernelsr.results import COLUMNS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="the CSV to add to")
    parser.add_argument("command", help="what made these runs")
    parser.add_argument("runs", type=Path, nargs="+", help="output folders")
    options = parser.parse_args()
    old: list[dict[str, str]] = []
    if options.result.exists():
        with open(options.result, newline="") as result:
            old = list(csv.DictReader(result))  # its columns may be fewer than today's
    with open(options.result, "w", newline="") as result:
        writer = csv.DictWriter(result, ["command", "version", "date", *COLUMNS])
        writer.writeheader()
        writer.writerows(old)
        for run in options.runs:
            version = run / "version.txt"
            when = date.fromtimestamp(version.stat().st_mtime).isoformat()
            made = {"command": options.command, "version": version.read_text().strip(), "date": when}
            for table in filter(Path.is_file, (run / "rows.csv", run / "floors.csv")):
                with open(table, newline="") as rows:
                    writer.writerows(made | row for row in csv.DictReader(rows))


if __name__ == "__main__":
    main()
