"""What a run shows while it goes on, and keeps for its curves."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from tqdm import tqdm

from kernelsr.metrics import kernel_psnr
from kernelsr.problem import Progress, Truth

POINTS = 100
"""Rows of a trace, about."""


class Recorder:
    """An ``on_step``: a bar with step, loss and time left, and a trace of loss and kernel PSNR.

    Reading the loss waits for the device, so it looks at no more than ``POINTS`` steps, and at two a second for the bar.
    """

    def __init__(self, steps: int, truth: Truth, label: str, *, shown: bool = True):
        self.trace: list[dict[str, Any]] = []
        self.truth, self.steps, self.every = truth, steps, max(1, steps // POINTS)
        self.looked = 0.0
        columns = "{l_bar}{bar:20}| {n_fmt}/{total_fmt} steps, {elapsed}<{remaining}{postfix}"
        self.bar = tqdm(total=steps, desc=label, disable=not shown, bar_format=columns, mininterval=0.5)

    def __call__(self, progress: Progress) -> None:
        step, now = progress.step + 1, time.monotonic()
        if step == 1 or step % self.every == 0 or step == self.steps:
            known = self.truth.kernel
            score = "" if known is None else kernel_psnr(progress.kernel.cpu(), known)
            self.trace.append({"step": step, "loss": float(progress.loss), "kernel_psnr": score})
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
