"""Seconds until there is help, and until the first step of a run: `python -m experiments.bench.startup [--append CSV]`.

The aims are 1.5 s and 5 s. ``--imports`` shows which packages the time goes to.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import Any

from experiments.bench import measure

AIMS = {"help": 1.5, "first step": 5.0}
UNTIL_THE_FIRST_STEP = """
import os, runpy
from kernelsr.progress import Recorder
Recorder.__call__ = lambda self, progress: os._exit(0)
runpy.run_path("run.py", run_name="__main__")
"""
IMPORTED = re.compile(r"import time:\s*(\d+) \|\s*\d+ \|\s*([^\s.]+)")


def command(name: str, folder: str) -> list[str]:
    """What is timed: the help, or a run that ends at its first step."""
    if name == "help":
        return ["run.py", "--help"]
    return ["-c", UNTIL_THE_FIRST_STEP, "references=false", f"cells={folder}/cells", f"hydra.run.dir={folder}/run"]


def seconds(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, cwd=measure.ROOT, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def imports(words: list[str], most: int = 12) -> list[tuple[str, float]]:
    """Seconds that each package's own modules took to import, the largest first."""
    timed = [sys.executable, "-X", "importtime", *words]
    said = subprocess.run(timed, capture_output=True, text=True, check=True, cwd=measure.ROOT).stderr
    found: Counter[str] = Counter()
    for microseconds, package in IMPORTED.findall(said):
        found[package] += int(microseconds)
    return [(package, total / 1e6) for package, total in found.most_common(most)]


def main() -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="starts of each kind, after one that is not counted")
    parser.add_argument("--imports", action="store_true", help="show what packages cost instead")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, aim in AIMS.items():
            words = command(name, folder)
            if options.imports:
                print(name, *(f"{package} {spent:.2f} s" for package, spent in imports(words)), sep="\n    ")
                continue
            times = [seconds(words) for _ in range(options.rounds + 1)][1:]
            rows.append({"what": name, "seconds": round(statistics.median(times), 3), "aim": aim})
    if rows:
        print(measure.table(rows))
        measure.keep(options.append, rows)


if __name__ == "__main__":
    main()
