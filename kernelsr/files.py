"""Files that are whole or as they were: written under another name and renamed, with errors in the user's words."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


def write_bytes_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file, and its folder where missing, so that a reader sees the old or the new content and nothing between.

    Raises:
        OSError: the folder cannot be written; one sentence names it and the remedy. The old file is then untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        raise explained(error, path) from error


def write_text_atomically(path: str | os.PathLike[str], text: str) -> None:
    """The same for text, as UTF-8; an odd byte of a file name, which has no UTF-8, becomes a question mark."""
    write_bytes_atomically(path, text.encode("utf-8", "replace"))


def read_table(path: str | os.PathLike[str]) -> list[dict[str, str]]:
    """The rows of a CSV file as ``write_table`` writes it, cells as text; none where there is no file."""
    if not Path(path).is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], *, append: bool = False) -> None:
    """Write rows as a CSV file with the columns that they have; ``append`` keeps those of the file, if it is there."""
    old = read_table(path) if append else []
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, list(dict.fromkeys(name for row in (*old, *rows) for name in row)), lineterminator="\n"
    )
    writer.writeheader()
    writer.writerows([*old, *rows])
    write_text_atomically(path, text.getvalue())


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock, which is a file that stays; the system releases it where the process dies.

    Raises:
        filelock.Timeout: another process holds it, and ``wait`` is False.
        OSError: the folder cannot be written, or its file system has no locks; one sentence says so.
    """
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise
    except NotImplementedError as error:
        raise OSError(f"cannot lock {path}: its file system has no locks; choose another folder") from error
    except OSError as error:
        raise explained(error, path) from error
    try:
        yield
    finally:
        lock.release()


def explained(error: OSError, path: Path) -> OSError:
    """The same error with a sentence that says what cannot be written, why, and the remedy."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = "the disk is full; free some space or choose another output folder"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        why = "the folder is read-only; make it writable or choose another output folder"
    else:
        why = f"{(error.strerror or str(error)).lower()}; choose another output folder"
    explained = OSError(f"cannot write {path.name} in {path.parent}: {why}")
    explained.errno = error.errno
    return explained
