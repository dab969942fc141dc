"""What an estimate cost: wall-clock seconds and peak memory."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from pathlib import Path

import torch


class Meter:
    """Seconds and peak memory (MB) since it was made: the device's memory on CUDA, the process's on a CPU."""

    def __init__(self, device: torch.device):
        self.device = device
        if device.type == "cuda":
            torch.cuda.init()
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _reset_peak()
        self.began, self.parameters = time.perf_counter(), 0

    def count(self, *parts: torch.nn.Module | None) -> None:
        """Add the numbers that these parts optimise for the image; frozen ones, as of a trained network, do not count."""
        for part in filter(None, parts):
            self.parameters += sum(values.numel() for values in part.parameters() if values.requires_grad)

    def read(self) -> dict[str, float]:
        """The columns ``seconds``, ``peak_memory_mb`` and ``parameters``."""
        if self.device.type == "cuda":
            # This image's stream only: to wait for the device would break what another thread records.
            torch.cuda.current_stream(self.device).synchronize()
            peak = torch.cuda.max_memory_allocated(self.device) / 1e6
        else:
            peak = _peak()
        return {"seconds": time.perf_counter() - self.began, "peak_memory_mb": peak, "parameters": self.parameters}


def _reset_peak() -> None:
    # Elsewhere than on Linux the peak is that of the whole process so far.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1e3
    except (OSError, StopIteration):
        try:
            import resource
        except ImportError:
            return math.nan  # Windows
        unit = 1e6 if sys.platform == "darwin" else 1e3
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
