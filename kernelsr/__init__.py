"""kernelsr: what blur kernel made this low-resolution image, and what image was there before?

estimate = kernelsr.estimate("photo.png", scale=4, prior="fkp")  # estimate.kernel, estimate.image
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kernelsr.problem import Estimate, Problem, Progress, Truth

if TYPE_CHECKING:
    from kernelsr.configure import estimate

__version__ = "0.1.0"
__all__ = ["Estimate", "Problem", "Progress", "Truth", "estimate"]


def __getattr__(name: str) -> Any:
    # `estimate` needs Hydra and every part; whoever imports one part should not wait for them.
    if name == "estimate":
        from kernelsr.configure import estimate

        return estimate
    raise AttributeError(f"module 'kernelsr' has no attribute {name!r}")
