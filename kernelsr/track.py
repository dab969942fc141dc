"""Runs watched from outside: ``track=tensorboard`` writes loss, kernel PSNR, image and kernel where TensorBoard looks."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from kernelsr.problem import Estimate
from kernelsr.results import Row


class Tracker:
    """Nothing is watched."""

    def __init__(self, folder: Path): ...

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def row(self, row: Row) -> None:
        """A row of the trace."""

    def estimate(self, estimate: Estimate) -> None:
        """What came out."""


class TensorBoard(Tracker):
    """Events for ``tensorboard --logdir outputs/``: one curve an image of a run."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder))
        self.last = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.close()

    def row(self, row: Row) -> None:
        self.last = int(row["step"])
        for name in ("loss", "kernel_psnr"):
            if isinstance(row[name], float):
                self.writer.add_scalar(name, row[name], self.last)
        self.writer.flush()  # to be watched while it runs

    def estimate(self, estimate: Estimate) -> None:
        kernel = estimate.kernel[0].clamp(min=0)
        self.writer.add_image("kernel", kernel / kernel.max().clamp(min=1e-12), self.last)
        if estimate.restored is not None and estimate.restored.shape[1] in (1, 3):
            self.writer.add_image("image", estimate.restored[0].clamp(0, 1), self.last)


def tracker(kind: str | None) -> Callable[[Path], Tracker]:
    """What watches an image into a folder: None nothing, ``tensorboard`` TensorBoard, from its extra.

    Raises:
        ValueError: there is no such tracker, or its package is not installed.
    """
    if kind is None:
        return Tracker
    if kind != "tensorboard":
        raise ValueError(f"track is {kind!r}; choose tensorboard, or leave it out")
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError("track=tensorboard needs TensorBoard; pip install 'kernelsr[track]' brings it")
    return TensorBoard
