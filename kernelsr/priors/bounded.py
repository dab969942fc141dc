"""A Gaussian kernel that is believed in, narrow enough for a restorer's image to stay within what images are: 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from kernelsr.beliefs import Believed, Settled, covariance_of, gaussian
from kernelsr.learner import Restorer, at_once
from kernelsr.problem import Problem

NEAR = 0.25
"""Spreads of the size by which a kernel moves at least, or not at all; so near to its place it is sought."""
LOOKS = 6
"""At the restorer's image, after the first."""


class Bounded(Believed):
    """A belief corrected by whether a restorer's image stays within [0, 1]; nothing learns afterwards.

    With too wide a kernel edges overshoot, and where the image is nearly black or white they leave the range of all images.
    So the kernel is made smaller than the belief's mean, its size by t of the belief's spreads, stretch and skew by as much
    as the belief says that they go with it, until ``outside`` e + t^2/2 is least, e the root mean square of what of the
    image x(k) lies outside. What is near the border does not count: a network that takes y as periodic overshoots there
    with any kernel. The deviation of what is believed about the kernel stays; ``smaller`` is t.

    Args:
        fit: (problem, rng) -> the one whose belief it is: Amortised, Spectral. Its mean counts, not its kernel.
        restorer: (problem, rng) -> the network, frozen, for any kernel; it sees the whole image, up to seven times. USRNet's
            scales are x2 to x4.
        outside: the weight, of values on the [0, 1] scale.
        weight: of the penalty that holds a loop to the result.
        settled: the spread of the size's logarithm up to which the kernel is settled, so that no loop begins there, or such
            spreads by scale; of a fit that says its doubt.

    Raises:
        ValueError: the restorer learns, or takes several calls to its image; its image is not finite; outside or settled is
            negative or not finite.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        fit: Callable[[Problem, torch.Generator], Believed],
        restorer: Callable[[Problem, torch.Generator], Restorer],
        outside: float = 200.0,
        weight: float = 0.0,
        settled: Settled = 0.0,
    ):
        super().__init__()
        if not 0 <= outside < math.inf:
            raise ValueError(f"outside is {outside}; it is a number, not negative")
        fitted = fit(problem, rng)
        belief, self.doubt, self.settled = fitted.belief, fitted.doubt, fitted.settled
        network = at_once(restorer(problem, rng))
        covariance = torch.linalg.inv(belief.precision[0])
        spread = covariance[:, 0] / covariance[0, 0].sqrt()  # of the size, and what goes with it of stretch and skew
        border = 2 * problem.scale * max(problem.margin, -(-(problem.kernel_size // 2) // problem.scale))

        @cache
        @torch.no_grad()
        def beyond(t: float) -> float:
            kernel = gaussian(covariance_of(belief.mean[0] - t * spread), problem)
            return outside * excess(network(kernel.to(problem.lr)), border)

        if not math.isfinite(beyond(0.0)):
            raise ValueError(
                f"the image of {type(network).__name__} is not finite; choose another restorer for the start"
            )

        def cost(t: float) -> float:
            return beyond(t) + t**2 / 2

        # Further the size alone costs more than all that is outside now.
        reach, smaller = math.sqrt(2 * beyond(0.0)), 0.0
        if reach > NEAR:
            options = {"xatol": NEAR, "maxiter": LOOKS}
            found = minimize_scalar(cost, bounds=(0, reach), method="bounded", options=options)
            if found.x > NEAR and found.fun < cost(0.0):
                smaller = float(found.x)
        self.smaller = smaller
        self.believe(belief._replace(mean=belief.mean - smaller * spread), problem, weight, settled=settled)


def excess(image: Tensor, border: int = 0) -> float:
    """The root mean square of what of an image lies outside [0, 1], but for a border; 0 where nothing else is left."""
    inner = image[..., border : image.shape[-2] - border, border : image.shape[-1] - border]
    return (inner - inner.clamp(0, 1)).square().mean().sqrt().item() if inner.numel() else 0.0
