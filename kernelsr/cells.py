"""Cells: what was computed once is found again. A cell is an image under one configuration; its key is the hash of both.

A cell's folder appears whole or not at all: it is written under another name and renamed, whatever kills the process. Two
processes share a store without a broker: who comes second to a cell takes others first, and then waits for it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout

from kernelsr.files import locked, write_text_atomically
from kernelsr.images import digest

FACTS = "cell.json"
SHOWING = (
    {
        "abreast",
        "cells",
        "cli",
        "files",
        "flags",
        "jobs",
        "launchers",
        "meter",
        "progress",
        "results",
        "runs",
        "statistics",
        "track",
        "worker",
    }
    | {"charts", "figures", "pages", "pictures", "report", "tables"}
    | {"sweep_cards", "sweep_files", "sweep_report", "sweeps"}
)
"""Modules that store, count or show, so that a change there leaves what was computed valid."""


@dataclass(frozen=True)
class Cell:
    """A finished cell: its key, its folder of files, the facts that were kept with them, and whether it was there before."""

    key: str
    folder: Path
    facts: dict[str, Any]
    found: bool

    def link_into(self, folder: Path) -> None:
        """Show the cell's files in a run's folder too: hard links, or copies where the file system has none."""
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / ".images.lock"):  # the same command may be started twice within a second
            for name in self.facts["files"]:
                temporary = folder / f".{name}.{os.getpid()}.part"
                temporary.unlink(missing_ok=True)
                try:
                    os.link(self.folder / name, temporary)
                except OSError:
                    shutil.copyfile(self.folder / name, temporary)
                os.replace(temporary, folder / name)
            for other in folder.iterdir():  # of an earlier run into the same folder
                if other.name not in self.facts["files"] and other.is_file():
                    other.unlink(missing_ok=True)


class Cells:
    """A store of cells, in a folder that several processes may use at once.

    Args:
        folder: of the store; made where missing.
        resume: False computes every cell anew, and keeps the new one.
    """

    def __init__(self, folder: str | os.PathLike[str], *, resume: bool = True):
        self.folder, self.resume = Path(folder), resume

    def get(self, key: str, make: Callable[[Path], Mapping[str, Any]], *, wait: bool) -> Cell | None:
        """The cell of a key, computed where it is not there yet; None where another process has it in work.

        Args:
            make: writes the files into the folder that it is given, and returns what to keep with them, as JSON has it.
            wait: for another process, instead of returning None.

        Raises:
            OSError: the store cannot be written. Whatever ``make`` raises; nothing of the cell is then kept.
        """
        if self.resume and (cell := self.find(key)):
            return cell
        part, final, old = (self.folder / name for name in (f".{key}.part", key, f".{key}.old"))
        try:
            with locked(self.folder / ".locks" / key, wait=wait):
                if self.resume and (cell := self.find(key)):
                    return cell
                for left in (part, old):  # by a process that was killed
                    _remove(left)
                if self.resume and final.exists():
                    print(f"the finished cell {final} was damaged since; it is computed anew", file=sys.stderr)
                try:
                    part.mkdir()
                    facts = dict(make(part))
                    facts["files"] = {path.name: path.stat().st_size for path in sorted(part.iterdir())}
                    write_text_atomically(part / FACTS, json.dumps(facts, indent=1))
                    if final.exists():
                        os.replace(final, old)
                    os.replace(part, final)
                finally:
                    _remove(part)
                    _remove(old)
        except Timeout:
            return None
        return Cell(key, final, facts, found=False)

    def find(self, key: str) -> Cell | None:
        """The cell where it is finished and its files are as it left them."""
        folder = self.folder / key
        try:
            facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
            whole = all((folder / name).stat().st_size == size for name, size in facts["files"].items())
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return Cell(key, folder, facts, found=True) if whole else None


def key_of(*parts: Any) -> str:
    """The key of what a cell depends on: plain data, told apart by value and never by order of keys or by place.

    A string that names a file or a folder of files counts by their contents, so that weights trained anew into the same
    file make another cell, and the same file elsewhere makes the same.
    """
    text = json.dumps(_by_content(list(parts)), sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _by_content(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _by_content(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_by_content(item) for item in value]
    return _contents(value) if isinstance(value, str) and value else value


def _contents(text: str) -> str:
    try:
        path = Path(text)
        files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
        return " ".join(digest(file) for file in files if file.is_file()) or text
    except (OSError, ValueError):
        return text  # no path at all


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


@cache
def code() -> str:
    """A hash of the code and the bundled weights that make numbers, so that a cell of changed code is another one.

    PyTorch is part of that code, by its version. The machine and its threads are not, which move last digits: machines share
    their cells, and a run says where it found some of another machine (``runs``).
    """
    package = Path(__file__).parent
    files = [path for path in sorted(package.rglob("*.py")) if path.stem not in SHOWING]
    files += sorted(path for path in (package / "weights").iterdir() if path.is_file())
    return key_of(torch.__version__, [[path.name, digest(path)] for path in files])


def code_of(settings: Any) -> list[str]:
    """Hashes of the modules outside the package that a configuration's ``_target_`` names: parts of the user's own."""
    if isinstance(settings, (list, tuple)):
        return [found for item in settings for found in code_of(item)]
    if not isinstance(settings, Mapping):
        return []
    found = [each for item in settings.values() for each in code_of(item)]
    target = str(settings.get("_target_", "kernelsr")).rpartition(".")[0]
    if target and target.partition(".")[0] != "kernelsr":
        with suppress(ImportError, ValueError, AttributeError):
            spec = importlib.util.find_spec(target)
            if spec and spec.origin and Path(spec.origin).is_file():
                found.append(digest(Path(spec.origin)))
    return found
