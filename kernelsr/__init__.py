"""kernelsr: what blur kernel made this low-resolution image, and what image was there before?

estimate = kernelsr.estimate("photo.png", scale=4, prior="fkp")  # estimate.kernel, estimate.image
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelsr.estimation import estimate
    from kernelsr.problem import Estimate, Problem, Progress, Truth

__version__ = "0.1.0"
__all__ = ["Estimate", "Problem", "Progress", "Truth", "estimate"]


def __getattr__(name: str) -> Any:
    # PyTorch takes seconds to import, and `--help` needs none of it.
    if name in __all__:
        return getattr(
            importlib.import_module("kernelsr.estimation" if name == "estimate" else "kernelsr.problem"), name
        )
    raise AttributeError(f"module 'kernelsr' has no attribute {name!r}")
