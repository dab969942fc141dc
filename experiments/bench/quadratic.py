"""What the quadratic form costs and saves: `python -m experiments.bench.quadratic`.

Milliseconds of making it for an image, of a kernel's error and gradient by it, of the same by degrading, and of USRNet's and
DIP-FKP's image step beside them; ``pays_from`` is the number of kernel steps on one image from which on it is cheaper.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import mse_loss

from experiments.bench import measure
from kernelsr import restorers
from kernelsr.degradation import degrade
from kernelsr.families import mean_kernel
from kernelsr.quadratic import Quadratic

SIZES = ((2, 192), (3, 192), (4, 192), (2, 252), (4, 252), (2, 960), (4, 960))
"""Scale and HR pixels a side: a crop, Set5's smaller images, DIV2K's crop in the papers."""


def milliseconds(run: Callable[[], object], repeats: int) -> float:
    """The median of some calls after a first one."""
    run()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


def row_of(scale: int, side: int) -> dict[str, Any]:
    problem = measure.blurred(side, scale)
    image = torch.rand(1, 3, *problem.hr_size, generator=torch.Generator().manual_seed(1))
    kernel = mean_kernel(problem).to(image).requires_grad_()
    form = Quadratic(image, problem, kernel)

    def by_form() -> None:
        form(kernel)[0].backward()

    def by_degrading() -> None:
        mse_loss(degrade(image, kernel, scale), problem.lr).backward()

    repeats = 3 if side > 500 else 9
    made = milliseconds(lambda: Quadratic(image, problem, kernel), repeats)
    plain, quick = milliseconds(by_degrading, repeats), milliseconds(by_form, 50)
    row: dict[str, Any] = {"scale": scale, "side": side, "making_ms": made, "form_ms": quick, "degrading_ms": plain}
    row["pays_from"] = made / (plain - quick)
    if side < 500:
        with torch.no_grad():
            net = restorers.Usrnet(problem, torch.Generator())
            row["usrnet_ms"] = milliseconds(lambda: net(kernel.detach()), 3)
        dip = restorers.Dip(problem, torch.Generator().manual_seed(0))
        row["dip_step_ms"] = milliseconds(lambda: dip(kernel.detach()).mean().backward(), 3)
    return row


def main() -> None:
    options = measure.arguments(__doc__).parse_args()
    rows = [row_of(*size) for size in SIZES]
    print(measure.table([{"usrnet_ms": "", "dip_step_ms": ""} | row for row in rows]))
    measure.keep(options.append, rows)


if __name__ == "__main__":
    main()
