"""The shards of a sweep as one: `python -m experiments.merge outputs/whole outputs/shard1 outputs/shard2 ...`.

Each shard is the folder of the same sweep (or run) with another `shard=`, brought here from wherever it ran. Jobs of one
command are joined: their rows, each once and in the order of the images, the images' files, and a report; then the sweep's
table and page are made. Nothing is computed, and no data set is needed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from kernelsr import results, sweeps
from kernelsr.jobs import JOB, Job
from kernelsr.results import METRICS, Row
from kernelsr.runs import show

COST = ("seconds", "peak_memory_mb")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("whole", type=Path, help="the folder to make; shards that come later can be added to it")
    parser.add_argument("shards", type=Path, nargs="+", help="folders of sweeps or runs")
    options = parser.parse_args()
    try:
        failures = merge(options.whole, options.shards)
    except (ValueError, OSError) as error:
        sys.exit(f"merge: {error}")
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


def merge(whole: Path, shards: list[Path]) -> list[str]:
    """Join the jobs of shards into ``whole``; returns what is missing, failed or told differently, a line each.

    Raises:
        ValueError: a folder holds no job, or ``whole`` is a file.
        OSError: ``whole`` cannot be written.
    """
    if whole.is_file():
        raise ValueError(f"{whole} is a file; the first word is the folder to make, and the shards follow it")
    places = {job.command: path for path, job in _jobs(whole)}
    sources: dict[str, list[tuple[Path, Job]]] = {command: [] for command in places}
    for shard in shards:
        jobs = _jobs(shard)
        if not jobs:
            raise ValueError(f"{shard} holds no {JOB}; give the folder of a run or of a sweep")
        for path, job in jobs:
            sources.setdefault(job.command, []).append((path, job))
            places.setdefault(job.command, _free(whole, job.number, places))
    failures = []
    for command, found in sources.items():
        failures += _join(places[command], found)
    return failures + sweeps.finish(whole)


def _jobs(folder: Path) -> list[tuple[Path, Job]]:
    """The jobs in a folder, or the one that it is of; a word about those that cannot be read."""
    found = []
    for path in sorted([folder / JOB, *folder.glob(f"*/{JOB}")]):
        if path.is_file():
            try:
                found.append((path.parent, Job.load(path.parent)))
            except ValueError as error:
                print(f"left out: {error}", file=sys.stderr)
    return found


def _free(whole: Path, number: int, places: dict[str, Path]) -> Path:
    """A folder for a job that is new: by its number in the sweep, or the next one that no other command has."""
    while whole / str(number) in places.values():
        number += 1
    return whole / str(number)


def _join(place: Path, shares: list[tuple[Path, Job]]) -> list[str]:
    """Rows and files of one job's shares into its place; what two tell differently is said, and the first is kept."""
    said: list[str] = []
    job = shares[0][1] if shares else Job.load(place)
    order = {name: number for number, name in enumerate(job.images)}
    for table in ("rows.csv", "floors.csv"):
        kept: dict[tuple[object, ...], Row] = {}
        for source in [place, *(path for path, _ in shares)]:
            for row in results.read_rows(source / table) if (source / table).is_file() else []:
                same = tuple(row[column] for column in results.SAME)
                before = kept.get(same)
                if before and not before["error"]:
                    if not row["error"] and _differ(row, before):
                        said.append(
                            f"{source}: {row['image']} of {row['method']} differs from an earlier share, which is kept"
                        )
                    continue
                kept[same] = row  # a failure gives way
                files = source / results.safe_name(row["image"])
                if table == "rows.csv" and source != place and files.is_dir():
                    shutil.copytree(files, place / files.name, dirs_exist_ok=True)
        rows = sorted(kept.values(), key=lambda row: order.get(row["image"], len(order)))
        if rows:
            results.write_rows(place / table, rows)
        if table == "rows.csv":
            seen = {row["image"] for row in rows}
            missing = [name for name in job.images if name not in seen]
            said += [f"{job.method} on {job.data}: no share has {name}" for name in missing]
            job.finished = not missing
    job.save(place)
    show(place, job, quiet=True)
    return said


def _differ(row: Row, other: Row) -> bool:
    """Whether two rows tell different numbers, but for what they cost and what an earlier version did not tell."""
    numbers = [metric for metric in METRICS if metric not in COST]
    told = [metric for metric in numbers if metric not in results.LATER or None not in (row[metric], other[metric])]
    return any(str(row[metric]) != str(other[metric]) for metric in told)  # as text, so that NaN equals itself


if __name__ == "__main__":
    main()
