"""Solvers couple a kernel prior and a restorer on one problem; they neither print nor save nor score.

Plain functions (problem, prior, restorer, *, settings, on_step) -> Estimate, one a file.
"""

from kernelsr.solvers.adversarial import adversarial
from kernelsr.solvers.alternating import alternating
from kernelsr.solvers.direct import direct
from kernelsr.solvers.joint import joint
from kernelsr.solvers.nonblind import nonblind

__all__ = ["adversarial", "alternating", "direct", "joint", "nonblind"]
