"""A sweep's folder as it lies there: its jobs with their rows, and what is wrong with those that are not whole."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kernelsr.jobs import JOB
from kernelsr.results import Row, read_rows

TOLD = ("data", "experiment", "protocol", "scale", "seed")
PARTS = ("prior", "restorer", "nonblind", "start", "solver")
"""Settings that the names of data and method, or a column, say already."""
OF_DATA = ("data.", "protocol=", "images=", "family=")
"""How settings begin that change what is estimated, and not how."""


@dataclass
class SweepJob:
    """One job: what its data and method are called in the sweep, its rows, and what is wrong with its files, if anything.

    ``left`` are images without a row; of jobs of one command, which are the shards of one, the last has those that none has.
    """

    folder: Path
    data: str = ""
    method: str = ""
    command: str = ""
    images: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    floors: list[Row] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


def read_sweep(folder: Path) -> list[SweepJob]:
    """The jobs in a sweep's folder, by number or name; whatever is missing or damaged there is a job's trouble, no error.

    A job's folder has a job.json or rows.csv, or a number for a name. Where jobs share the name of data or method, the
    settings in which they differ are added to it.
    """
    folders = [path for path in folder.iterdir() if path.is_dir() and _is_job(path)]
    jobs = [_read(path) for path in sorted(folders, key=_order)]
    data = _labels([job.data for job in jobs], [_of_data(job) for job in jobs])
    methods = _labels([job.method for job in jobs], [_of_method(job) for job in jobs])
    shards: dict[str, list[SweepJob]] = {}
    for number, job in enumerate(jobs):
        job.data, job.method = data[number], methods[number]
        shards.setdefault(job.command or str(number), []).append(job)
        for row in job.rows:
            row |= {"method": job.method}
        for row in [*job.rows, *job.floors]:
            row |= {"data": job.data}
    for group in shards.values():
        seen = {row["image"] for job in group for row in job.rows}
        group[-1].left = [name for name in dict.fromkeys(sum((job.images for job in group), [])) if name not in seen]
    return jobs


def _labels(names: Sequence[str], settings: Sequence[list[str]]) -> list[str]:
    """Each name, and of the settings that go with it those in which its namesakes differ."""
    common: dict[str, set[str]] = {}
    for name, words in zip(names, settings, strict=True):
        common[name] = common.get(name, set(words)) & set(words)
    return [
        " ".join([name, *(word for word in words if word not in common[name])])
        for name, words in zip(names, settings, strict=True)
    ]


def _of_data(job: SweepJob) -> list[str]:
    return [word for word in _settings(job.command) if word.startswith(OF_DATA)]


def _of_method(job: SweepJob) -> list[str]:
    words = [word.lstrip("+") for word in _settings(job.command)]
    # A method is called by its experiment alone, whatever parts of it the command changes.
    told = TOLD if any(word.startswith("experiment=") for word in words) else (*TOLD, *PARTS)
    return [word for word in words if not word.startswith(OF_DATA) and word.partition("=")[0] not in told]


def _read(path: Path) -> SweepJob:
    job = SweepJob(path)
    job.rows = _rows(path / "rows.csv", job.troubles)
    job.floors = _rows(path / "floors.csv", job.troubles)
    facts: dict[str, Any] = {}
    if (path / JOB).is_file():
        try:
            written = json.loads((path / JOB).read_text(encoding="utf-8"))
            facts = {key: written.get(key) for key in ("data", "method", "command", "images", "error", "finished")}
        except (OSError, ValueError, AttributeError, RecursionError) as error:
            job.troubles.append(f"its {JOB} is damaged ({error})")
    else:
        job.troubles.append(f"it has no {JOB}: it never began, or was made by another program")
    first = job.rows[0] if job.rows else {}
    job.data = str(facts.get("data") or first.get("data") or ("unknown data" if first else ""))
    job.method = str(facts.get("method") or first.get("method") or ("unknown method" if first else ""))
    job.command = str(facts.get("command") or first.get("command") or "")
    images = facts.get("images")
    job.images = [str(name) for name in images] if isinstance(images, list) else []
    if facts.get("error"):
        job.troubles.append(str(facts["error"]))
    elif facts.get("finished") is False:
        job.troubles.append("it did not come to its end")
    return job


def _rows(path: Path, troubles: list[str]) -> list[Row]:
    if not path.is_file():
        return []
    try:
        return read_rows(path)
    except (ValueError, OSError) as error:
        troubles.append(str(error))
        return []


def _is_job(path: Path) -> bool:
    return path.name.isdecimal() or any((path / name).is_file() for name in (JOB, "rows.csv"))


def _order(path: Path) -> tuple[int, int, str]:
    return (0, int(path.name), path.name) if path.name.isdecimal() else (1, 0, path.name)


def _settings(command: str) -> Sequence[str]:
    """The settings of a command, without the program's name."""
    try:
        return [word for word in shlex.split(command) if "=" in word]
    except ValueError:  # a quote that never ends
        return []
