"""Several images at work at once, for a card that one image does not fill: threads of one process, each with its own stream.

What is computed does not change: an image's draws are its own, and parts, which share PyTorch's global generator, are built
one at a time (``learner.BUILDING``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

PIXEL_BYTES = 20_000
"""GPU memory of a deep image prior of 128 channels, for each HR pixel. Its backward pass keeps 6.5 kB (float32, counted on a
CPU); three times that, for what comes and goes, convolutions' workspaces and graphs. Not yet measured on a GPU."""
LANE_BYTES = 500_000_000
"""GPU memory of an image beside that: parameters, libraries' workspaces on its stream."""
FULL_PIXELS = 1_000_000
"""HR pixels at work at once that are thought to fill any card: one of the papers' 960x960 crops."""
MOST = 8


class Stopped(BaseException):
    """The run ends, and so does what another thread has in work; no error of an image."""


class Lanes:
    """Runs work on items, ``count`` at once: 1 in the caller's thread, more in threads of their own.

    On a GPU each thread has a CUDA stream. An error, or an interruption of the caller, ends the work at hand at its next
    ``check`` and is raised when all threads have ended.
    """

    def __init__(self, count: int, device: torch.device):
        self.count, self.device = count, device
        self.stopping = threading.Event()

    @property
    def crowded(self) -> bool:
        """Whether images share a GPU."""
        return self.count > 1 and self.device.type == "cuda"

    def check(self) -> None:
        """To be called often by the work: raises where it should end."""
        if self.stopping.is_set():
            raise Stopped

    def each(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """The results, in the order of the items."""
        if self.count == 1 or len(items) < 2:
            return [work(item) for item in items]
        with ThreadPoolExecutor(self.count, initializer=self._begin, initargs=(torch.get_num_threads(),)) as pool:
            futures = [pool.submit(work, item) for item in items]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                self.stopping.set()
                pool.shutdown(cancel_futures=True)
                raise
        return [future.result() for future in futures]

    def _begin(self, threads: int) -> None:
        torch.set_num_threads(threads)
        if self.device.type == "cuda":
            torch.cuda.set_stream(torch.cuda.Stream(self.device))


def lanes_of(batch: int | str, device: torch.device, *, pixels: Callable[[], int], channels: int) -> Lanes:
    """As many lanes as ``batch`` says; ``auto``: 1 on a CPU, on a GPU what its free memory and the largest image allow.

    Args:
        pixels: tells the largest image's HR pixels; asked only where it matters.
        channels: of the deep image prior; 0, where there is none, makes one lane.

    Raises:
        ValueError: batch is neither ``auto`` nor a positive integer.
    """
    if batch == "auto":
        if device.type != "cuda" or not channels:
            return Lanes(1, device)
        return Lanes(fitting(torch.cuda.mem_get_info(device)[0], pixels(), channels), device)
    if type(batch) is not int or batch < 1:
        raise ValueError(f"batch is {batch!r}; choose auto, or how many images are at work at once: 1, 2, ...")
    return Lanes(batch, device)


def fitting(free: int, pixels: int, channels: int) -> int:
    """How many images of so many HR pixels are at work at once in so many bytes, a fifth of which are left alone."""
    each = LANE_BYTES + PIXEL_BYTES * pixels * channels // 128
    return max(1, min(int(0.8 * free) // each, FULL_PIXELS // max(pixels, 1), MOST))
