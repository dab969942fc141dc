"""What priors find when they see the true image: `python -m experiments.known_image RESULT.csv`.

The middle 64x64 pixels of the bundled photographs at x2, and 300 steps on the mean squared data error: no restorer is in the
way, so what is left is how a prior moves. A row for each photograph, kernel family and prior.
"""

from __future__ import annotations

import statistics
import sys
from datetime import date
from itertools import product

from torch import Tensor

from kernelsr import metrics, solvers
from kernelsr.cli import version
from kernelsr.configure import compose_config, part, scenario_of
from kernelsr.degradation import degrade
from kernelsr.files import write_table
from kernelsr.learner import Restorer
from kernelsr.problem import Problem
from kernelsr.seeds import generator

PRIORS = {
    "inr": ["prior.lr=3e-3"],
    "softmax": ["prior.lr=0.1"],
    "double_dip": ["prior.lr=1e-3"],
    "gaussian": ["prior.lr=0.02"],
}
FAMILIES = ("aniso", "motion", "random_motion")


class KnownImage(Restorer):
    """The true image."""

    def __init__(self, image: Tensor):
        super().__init__()
        self.register_buffer("image", image)

    def forward(self, kernel: Tensor) -> Tensor:
        return self.get_buffer("image")


def main() -> None:
    rows = []
    for family, prior in product(FAMILIES, PRIORS):
        settings = [f"prior={prior}", "prior.start=0", *PRIORS[prior]]
        cfg = compose_config([f"data=demo_{family}", "data.window=64", "scale=2", *settings])
        found = []
        for case in scenario_of(cfg):
            whole, truth = case.load()
            assert truth.hr is not None and truth.kernel is not None
            # Degraded anew: the middle of a degraded image is not circular, and its border would decide.
            lr = degrade(truth.hr, truth.kernel.to(truth.hr), whole.scale)
            problem = Problem(lr.clamp(0, 1), whole.scale, whole.kernel_size)
            learner = part(cfg, "prior", problem, generator(cfg.seed, case.name))
            estimate = solvers.joint(problem, learner, KnownImage(truth.hr), steps=300, ssim_steps=0)
            found.append(metrics.score_kernel(estimate.kernel, truth.kernel))
            names = {"data": f"demo_{family}", "image": case.name, "settings": " ".join(settings)}
            rows.append(names | found[-1] | {"version": version(), "date": date.today().isoformat()})
        psnr = statistics.mean(row["kernel_psnr"] for row in found)
        print(f"{family}, {prior}: {psnr:.1f} dB, mean of {len(found)}")
    write_table(sys.argv[1], rows)


if __name__ == "__main__":
    main()
