"""A sweep's folder once its jobs are done, read from their files alone, whichever engine ran them: one table, one page."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from kernelsr import report, results
from kernelsr.runs import JOB, Job

TOLD = ("data", "prior", "restorer", "nonblind", "start", "solver", "experiment", "scale", "seed")
"""What a line of a sweep's table says, or is the mean over."""


def jobs_of(folder: Path) -> list[tuple[Path, Job]]:
    """The jobs in a sweep's folder with their own folders, in the sweep's order; a word about those that cannot be read."""
    found = []
    for path in folder.glob(f"*/{JOB}"):
        try:
            found.append((path.parent, Job.load(path.parent)))
        except ValueError as error:
            print(f"left out: {error}", file=sys.stderr)
    return sorted(found, key=lambda pair: (pair[1].number, pair[0].name))


def finish(folder: Path) -> list[str]:
    """Write table.txt of a sweep and show it; returns what failed, a line each: jobs that ended early, and images.

    Raises:
        ValueError: the rows of a job are damaged.
        OSError: the folder cannot be written.
    """
    jobs = jobs_of(folder)
    if not jobs:
        return [f"no job of the sweep in {folder} has begun"]
    failures = [job.error or f"job {job.number} did not come to its end" for _, job in jobs if not job.finished]
    for path, _ in jobs:
        failures += [f"{row['image']}: {row['error']}" for row in _rows(path / "rows.csv") if row["error"]]
    runs = []
    for path, job in jobs:
        data, method = labels(job, jobs)
        rows = [row | {"method": method} for row in _rows(path / "rows.csv")]
        runs.append((data, rows, _rows(path / "floors.csv")))
    table = report.sweep_table(runs)
    results.write_text_atomically(folder / "table.txt", table + "\n")
    print(f"{table}\ntable: {folder / 'table.txt'}")
    return failures


def _rows(path: Path) -> list[results.Row]:
    return results.read_rows(path) if path.is_file() else []


def labels(job: Job, jobs: list[tuple[Path, Job]]) -> tuple[str, str]:
    """What data and method of a job are called in its sweep: their names, and of the settings those that vary there."""
    words = [set(_words(other)) for _, other in jobs]
    common = set.intersection(*words)
    varying = [word for word in _words(job) if word not in common and word.partition("=")[0] not in TOLD]
    data = " ".join([job.data, *(word for word in varying if word.startswith("data."))])
    return data, " ".join([job.method, *(word for word in varying if not word.startswith("data."))])


def _words(job: Job) -> list[str]:
    """The settings of a job's command, without the program's name."""
    return shlex.split(job.command)[2:]
