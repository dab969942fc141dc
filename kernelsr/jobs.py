"""A run as its folder says it, so that tables, pages and merges need nothing but the files."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from kernelsr.files import write_text_atomically

JOB = "job.json"


@dataclass
class Job:
    """One run, as its folder's job.json says it: what its data and method are called, and the command that makes it again.

    ``number`` is its place in a sweep; ``images`` their names in order, of which it takes ``share``; ``settings`` the flat
    configuration and the versions; ``error`` why it could not run at all, and ``finished`` whether it came to its end.
    """

    data: str
    method: str
    command: str
    number: int = 0
    images: list[str] = field(default_factory=list)
    share: int = 0
    settings: dict[str, str] = field(default_factory=dict)
    error: str = ""
    finished: bool = False

    def save(self, folder: Path) -> None:
        write_text_atomically(folder / JOB, json.dumps(vars(self), indent=1))

    @classmethod
    def load(cls, folder: Path) -> Job:
        """Raises a ValueError where the folder has no whole job.json."""
        try:
            return cls(**json.loads((folder / JOB).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise ValueError(f"{folder} is no folder of a run: {JOB} is missing or damaged ({error})") from error
