"""What a run shows while it goes on, and keeps for its curves: a bar an image, and how far run or sweep have come."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

from tqdm import tqdm

from kernelsr.jobs import JOB
from kernelsr.metrics import kernel_psnr
from kernelsr.problem import Progress, Truth
from kernelsr.results import Row, read_rows

POINTS = 100
"""Rows of a trace, about."""
JOBS, WORKERS = "KERNELSR_SWEEP_JOBS", "KERNELSR_SWEEP_WORKERS"
"""Environment variables by which a sweep tells its jobs, in whichever processes, how many they are and run at once."""


def bars() -> bool:
    """Whether bars are drawn: on a terminal that one job at a time writes to. Elsewhere an image is a line."""
    return sys.stderr.isatty() and os.environ.get(WORKERS, "1") == "1"


class Recorder:
    """An ``on_step``: a bar with step, loss and time left, and a trace of loss and kernel PSNR.

    Reading the loss waits for the device, so it looks at no more than ``POINTS`` steps, and at two a second for the bar; and
    it reads at once, for the next step may overwrite what it is shown.

    Args:
        shown: draw the bar, where there are ``bars``.
        track: called with each row of the trace.
    """

    def __init__(
        self,
        steps: int,
        truth: Truth,
        label: str,
        *,
        shown: bool = True,
        track: Callable[[Row], None] = lambda row: None,
    ):
        self.trace: list[dict[str, Any]] = []
        self.truth, self.steps, self.every, self.track = truth, steps, max(1, steps // POINTS), track
        self.looked = 0.0
        columns = "{l_bar}{bar:20}| {n_fmt}/{total_fmt} steps, {elapsed}<{remaining}{postfix}"
        shown = shown and bars()
        self.bar = tqdm(total=steps, desc=label, disable=not shown, bar_format=columns, mininterval=0.5)

    def __call__(self, progress: Progress) -> None:
        step, now = progress.step + 1, time.monotonic()
        if step == 1 or step % self.every == 0 or step == self.steps:
            known = self.truth.kernel
            score = "" if known is None else kernel_psnr(progress.kernel.cpu(), known)
            self.trace.append({"step": step, "loss": float(progress.loss), "kernel_psnr": score})
            self.track(self.trace[-1])
        if not self.bar.disable and now - self.looked > 0.5:
            self.bar.set_postfix_str(f"loss {float(progress.loss):.3g}", refresh=False)
            self.looked = now
        self.bar.update()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()


@dataclass
class Overall:
    """How far a run is, or the sweep that it is a job of; read from the rows in its folder, whichever process wrote them.

    Args:
        folder: of the run.
        images: how many the run has.
        lanes: how many of them are at work at once.
    """

    folder: Path
    images: int
    lanes: int = 1
    seconds: ClassVar[list[float]] = []  # of the images computed so far in this process, whichever job they were of

    def __str__(self) -> str:
        """``12/70 done, 1 failed, 57 left, 25 min``; before the first image was computed without a time."""
        jobs, workers = (int(os.environ.get(name, "1")) for name in (JOBS, WORKERS))
        total = self.images
        if jobs > 1:
            begun = [self._share(path) for path in self.folder.parent.glob(f"*/{JOB}")]
            # Of what has not begun yet no more is known than of this one.
            total = sum(self.images if share is None else share for share in begun)
            total += self.images * max(jobs - len(begun), 0)
        rows = self._rows(self.folder.parent.glob("*/rows.csv") if jobs > 1 else [self.folder / "rows.csv"])
        failed = sum(bool(row["error"]) for row in rows)
        left = max(total - len(rows), 0)
        words = [
            f"{len(rows) - failed}/{max(total, len(rows))} done",
            *([f"{failed} failed"] if failed else []),
            f"{left} left",
        ]
        if self.seconds and left:
            words.append(_duration(sum(self.seconds) / len(self.seconds) * left / min(workers * self.lanes, left)))
        return ", ".join(words)

    @staticmethod
    def _share(path: Path) -> int | None:
        """How many images a job takes: none where it could not run; None where it does not say so yet."""
        with suppress(ValueError, OSError, AttributeError):
            facts = json.loads(path.read_text(encoding="utf-8"))
            return 0 if facts.get("error") else facts.get("share") or None
        return None

    @staticmethod
    def _rows(paths: Any) -> list[Row]:
        rows: list[Row] = []
        for path in paths:
            with suppress(ValueError, OSError):  # of another program, or just being made
                rows += read_rows(path)
        return rows


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
