"""Rows of runs into one result file: `python -m experiments.collect RESULT.csv 'COMMAND' outputs/<date>/<time> ...`.

Adds to each row the command that made it, the commit and the date, so that a number can be traced.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
from datetime import date
from pathlib import Path

from kernelsr.results import COLUMNS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="the CSV to add to")
    parser.add_argument("command", help="what made these runs")
    parser.add_argument("runs", type=Path, nargs="+", help="output folders")
    options = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    made = {"command": options.command, "commit": commit, "date": date.today().isoformat()}
    new = not options.result.exists()
    with open(options.result, "a", newline="") as result:
        writer = csv.DictWriter(result, [*made, *COLUMNS])
        if new:
            writer.writeheader()
        for run in options.runs:
            for name in ("rows.csv", "floors.csv"):
                with open(run / name, newline="") as rows:
                    writer.writerows(made | row for row in csv.DictReader(rows))


if __name__ == "__main__":
    main()
