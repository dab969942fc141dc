"""What the bundled flows' kernels are like: `python -m experiments.flow_facts experiments/results/flow_facts.csv`.

Two facts that the pages quote: how far the sums of random points of FKP's sphere are from one, and what dequantisation
alone does to a kernel that is encoded and decoded again.
"""

from __future__ import annotations

import statistics
import sys

import torch

from kernelsr import flows, kernels, metrics
from kernelsr.families import AnisotropicGaussian
from kernelsr.files import write_table
from kernelsr.problem import Problem

DRAWS = 500


def facts(scale: int) -> dict[str, float]:
    """One row of the table."""
    flow, rng = flows.bundled(scale), torch.Generator().manual_seed(0)
    latents = torch.randn(DRAWS, flow.kernel_size**2, generator=rng)
    radius = flow.kernel_size - 1
    sums = flow.decode(latents / latents.norm(dim=1, keepdim=True) * radius).sum((1, 2, 3))
    drawn = AnisotropicGaussian()(DRAWS, Problem(torch.zeros(1, 1, 64, 64), scale), rng)
    decoded = flow.decode(flow.encode(drawn, rng))
    pairs = list(zip(decoded.split(1), drawn.split(1), strict=True))
    near = kernels.normalise(drawn) > 1e-4
    return {
        "scale": scale,
        "sphere_sum_min": sums.min().item(),
        "sphere_sum_max": sums.max().item(),
        "dequantised_kernel_psnr": statistics.mean(metrics.kernel_psnr(*pair) for pair in pairs),
        "dequantised_variance_error": statistics.mean(metrics.variance_error(*pair) for pair in pairs),
        "dequantised_mass_outside": ((decoded * ~near).sum() / decoded.sum()).item(),
    }


def main() -> None:
    rows = [facts(scale) for scale in (2, 3, 4, 8)]
    write_table(sys.argv[1], rows)


if __name__ == "__main__":
    main()
