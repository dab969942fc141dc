"""Statistics over images and seeds: means with their spread, and paired differences between methods with an interval.

The image is the unit: seeds, and scales, are averaged first, since two seeds of one image are no two images.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.stats import bootstrap

Image = TypeVar("Image", bound=Hashable)
Key = TypeVar("Key", bound=tuple[Hashable, ...])

FEWEST = 3  # images, below which there is no interval: two make four resamples
RESAMPLES = 9999
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """A mean over images with its spread.

    Args:
        mean: of the images' means over seeds.
        sd: sample standard deviation of these over the images; None of one image.
        seed_sd: standard deviation over the seeds of one image, pooled over images; None where none has two seeds.
        images, seeds: how many there are.
    """

    mean: float
    sd: float | None
    seed_sd: float | None
    images: int
    seeds: int


@dataclass(frozen=True)
class Difference:
    """The mean paired difference of a method to another one.

    Args:
        mean: over images, of the differences averaged over all that repeats an image, such as seeds.
        low, high: ends of the bootstrap interval; None below ``FEWEST`` images.
        images: resampled.
        pairs: of values behind them.
        better: images where the difference is above zero.
    """

    mean: float
    low: float | None
    high: float | None
    images: int
    pairs: int
    better: int

    def __str__(self) -> str:
        """The mean to two places with its sign, and where there is one its interval: +0.16 [+0.09, +0.24]."""
        interval = "" if self.low is None or self.high is None else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.mean:+.2f}{interval}"


def summarise(values: Mapping[tuple[Image, int | None], float]) -> Summary | None:
    """Mean and spread of values by (image, seed); None where no value is finite."""
    groups = _by_image(values)
    if not groups:
        return None
    means = [statistics.fmean(group) for group in groups.values()]
    repeated = [group for group in groups.values() if len(group) > 1]
    freedom = sum(len(group) - 1 for group in repeated)
    within = sum(statistics.variance(group) * (len(group) - 1) for group in repeated)
    return Summary(
        mean=statistics.fmean(means),
        sd=statistics.stdev(means) if len(means) > 1 else None,
        seed_sd=math.sqrt(within / freedom) if repeated else None,
        images=len(groups),
        seeds=len({seed for (_, seed), value in values.items() if math.isfinite(value)}),
    )


def paired_difference(values: Mapping[Key, float], against: Mapping[Key, float]) -> Difference | None:
    """How much higher ``values`` are than ``against`` where both know a key; None where they share none.

    A key is (image, seed), or (image, scale, seed): whatever follows the image repeats it, and is averaged first, the last
    of a key before the others. The interval is the percentile bootstrap's over images, from a generator of its own: the same
    pairs give the same interval, in whatever order they come. With few images it is rather too short.
    """
    shared = {
        key: values[key] - against[key]
        for key in values.keys() & against.keys()
        if math.isfinite(values[key]) and math.isfinite(against[key])
    }
    if not shared:
        return None
    # In order of size, so that the resamples do not depend on the images' order or names.
    means = sorted(_image_means(shared))
    low, high = _interval(means) if len(means) >= FEWEST else (None, None)
    better = sum(mean > 0 for mean in means)
    return Difference(statistics.fmean(means), low, high, len(means), len(shared), better)


def _image_means(values: Mapping[Key, float]) -> list[float]:
    """A mean of each image, of means over what repeats it."""
    means: dict[tuple[Hashable, ...], float] = dict(values.items())
    for depth in range(max(map(len, means)) - 1, 0, -1):
        groups: dict[tuple[Hashable, ...], list[float]] = defaultdict(list)
        for key, value in means.items():
            groups[key[:depth]].append(value)
        means = {key: statistics.fmean(sorted(group)) for key, group in groups.items()}  # sums round alike in any order
    return list(means.values())


def _interval(means: list[float]) -> tuple[float, float]:
    if means[0] == means[-1]:
        return means[0], means[0]
    rng = np.random.default_rng(0)
    found = bootstrap(
        (means,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile", random_state=rng
    ).confidence_interval
    return float(found.low), float(found.high)


def _by_image(values: Mapping[tuple[Image, int | None], float]) -> dict[Image, list[float]]:
    """The finite values of each image, sorted, so that sums round alike in any order."""
    groups: dict[Image, list[float]] = defaultdict(list)
    for (image, _), value in values.items():
        if math.isfinite(value):
            groups[image].append(value)
    return {image: sorted(group) for image, group in groups.items()}
