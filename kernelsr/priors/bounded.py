"""A Gaussian kernel that is believed in, narrow enough for a restorer's image to stay within what images are: 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from kernelsr.beliefs import Believed, covariance_of, gaussian
from kernelsr.learner import Restorer
from kernelsr.problem import Problem

NEAR = 0.25
"""Spreads of the size: a kernel that could move by no more stays, and so near to its place it is sought."""
LOOKS = 6
"""At the restorer's image, at most."""


class Bounded(Believed):
    """A belief corrected by whether a restorer's image stays within [0, 1]; nothing learns afterwards.

    With too wide a kernel edges overshoot, and where the image is nearly black or white they leave the range of all images;
    with the true kernel hardly one pixel does. So the kernel's size is made smaller, by t of its spreads, and stretch and
    skew by as much as the belief says that they go with it, until weight |outside| + t^2/2 is least, |outside| the root
    mean square of what of the image x(k) lies outside. The deviation of what is believed about the kernel stays.

    Args:
        fit: (problem, rng) -> the one whose belief it is: Amortised, Spectral.
        restorer: (problem, rng) -> the network, frozen; it sees the whole image, up to seven times.
        outside: the weight, of values on the [0, 1] scale.
        weight: of the penalty that holds a loop to the result.
        settled: the spread of the size's logarithm up to which the kernel is settled, so that no loop begins there.

    Raises:
        ValueError: the restorer learns; outside is negative.
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
        settled: float = 0.0,
    ):
        super().__init__()
        if outside < 0:
            raise ValueError(f"outside is {outside}; it is a weight, or 0 for the fit as it stands")
        fitted = fit(problem, rng)
        belief, self.doubt = fitted.belief, fitted.doubt
        self.settled = fitted.settled or (self.doubt is not None and self.doubt.size <= settled)
        network = restorer(problem, rng)
        if network.optimizer is not None:
            raise ValueError(
                f"{type(network).__name__} learns, and a quick look needs a network that is trained; usrnet is"
            )
        covariance = torch.linalg.inv(belief.precision[0])
        spread = covariance[:, 0] / covariance[0, 0].sqrt()  # of the size, and what goes with it of stretch and skew

        @cache
        @torch.no_grad()
        def beyond(t: float) -> float:
            kernel = gaussian(covariance_of(fitted.chosen - t * spread), problem)
            return outside * excess(network(kernel.to(problem.lr)))

        # Further the size alone costs more than all that is outside now.
        reach, t = math.sqrt(2 * beyond(0.0)), 0.0
        if reach > NEAR:
            found = minimize_scalar(
                lambda t: beyond(t) + t**2 / 2,
                bounds=(0, reach),
                method="bounded",
                options={"xatol": NEAR, "maxiter": LOOKS},
            )
            t = float(found.x) if found.fun < beyond(0.0) else 0.0
        self.believe(belief._replace(mean=belief.mean - t * spread), problem, weight, fitted.chosen - t * spread)


def excess(image: Tensor) -> float:
    """The root mean square of what of an image lies outside [0, 1]."""
    return (image - image.clamp(0, 1)).square().mean().sqrt().item()
