"""A Gaussian kernel that is believed in, and with which a restorer's image explains y."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from kernelsr.beliefs import Belief, Believed, Settled, covariance_of, gaussian
from kernelsr.crops import informative_crop
from kernelsr.degradation import degrade
from kernelsr.learner import Restorer, at_once
from kernelsr.problem import Problem


class Explained(Believed):
    """A belief corrected by whether a restorer can explain y with it; nothing learns afterwards.

    A network that was trained on true kernels mostly leaves more of y unexplained with a kernel much wider than the true
    one, perhaps as y then has more of high frequencies than it ever saw behind such a blur. So of all Gaussians
    counts/2 log |degrade(x(k), k) - y|^2 + d'Pd/2 is made least, x(k) the restorer's image, d the distance from the belief's
    mean in size, stretch and skew, P its precision. A few steps of L-BFGS find it, as x(k) carries a gradient; on the most
    informative window, for nothing else of the image is needed.

    Args:
        fit: (problem, rng) -> the one whose belief it is: Spectral, Amortised. Its mean counts, not its kernel.
        restorer: (problem, rng) -> the network, differentiable in the kernel, frozen.
        counts: how many independent Gaussian numbers the unexplained rest is thought to be.
        crop: side of the window, HR pixels; None takes the whole image.
        evaluations: of the restorer, at most about so many.
        weight: of the penalty that holds a loop to the result.
        settled: the spread of the size's logarithm up to which the kernel is settled, so that no loop begins there, or such
            spreads by scale; of a fit that says its doubt.

    Raises:
        ValueError: the restorer learns, takes several calls, or ignores the kernel; counts or evaluations are not positive;
            settled is negative or not finite.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        fit: Callable[[Problem, torch.Generator], Believed],
        restorer: Callable[[Problem, torch.Generator], Restorer],
        counts: float = 30.0,
        crop: int | None = 192,
        evaluations: int = 8,
        weight: float = 0.0,
        settled: Settled = 0.0,
    ):
        super().__init__()
        for name, value in (("counts", counts), ("evaluations", evaluations)):
            if value <= 0:
                raise ValueError(f"{name} is {value}; it must be positive, or begin at the fit alone")
        fitted = fit(problem, rng)
        belief, self.doubt, self.settled = fitted.belief, fitted.doubt, fitted.settled
        mean, precision = belief.mean[0], belief.precision[0]
        part = problem if crop is None else informative_crop(problem, crop)
        network = at_once(restorer(part, rng))
        # In units of what the belief leaves open, along the axes of its precision.
        unit = torch.linalg.inv(torch.linalg.cholesky(precision)).T

        def kernel_at(place: Tensor) -> Tensor:
            return gaussian(covariance_of(mean + unit @ place), part)

        def loss(place: np.ndarray) -> tuple[float, np.ndarray]:
            point = torch.tensor(place, requires_grad=True)
            kernel = kernel_at(point).to(part.lr)
            image = network(kernel)
            if not image.requires_grad:
                raise ValueError(f"{type(network).__name__} ignores the kernel or has no gradient; choose usrnet")
            rest = part.inside(degrade(image, kernel, part.scale) - part.lr).square().mean()
            total = counts / 2 * rest.double().cpu().log() + point.square().sum() / 2
            (gradient,) = torch.autograd.grad(total, point)
            return total.item(), gradient.numpy()

        found = minimize(loss, np.zeros(3), jac=True, method="L-BFGS-B", options={"maxfun": evaluations})
        moved = Belief((mean + unit @ torch.from_numpy(found.x))[None], belief.precision)
        self.believe(moved, problem, weight, settled=settled)
