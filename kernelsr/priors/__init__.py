"""Kernel priors: points among kernels that one *optimises*; one final class a file."""

from kernelsr.priors.amortised import Amortised
from kernelsr.priors.bounded import Bounded
from kernelsr.priors.deep_linear import DeepLinear
from kernelsr.priors.dynamic import Dynamic
from kernelsr.priors.explained import Explained
from kernelsr.priors.flow import Flow
from kernelsr.priors.gaussian import Gaussian
from kernelsr.priors.inr import Inr
from kernelsr.priors.network import Network
from kernelsr.priors.pool import Pool
from kernelsr.priors.repeated import Repeated
from kernelsr.priors.softmax import Softmax
from kernelsr.priors.spectral import Spectral

__all__ = [
    "Amortised",
    "Bounded",
    "DeepLinear",
    "Dynamic",
    "Explained",
    "Flow",
    "Gaussian",
    "Inr",
    "Network",
    "Pool",
    "Repeated",
    "Softmax",
    "Spectral",
]
