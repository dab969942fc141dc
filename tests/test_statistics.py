"""Means, spreads and paired differences: by hand, against every resample there is, and in any order."""

import itertools
import math
import random
import warnings

import numpy as np
import pytest

from kernelsr.statistics import FEWEST, Difference, paired_difference, summarise


def by_seed(*rows: list[float]) -> dict[tuple[str, int | None], float]:
    return {(f"image {i}", seed): value for i, row in enumerate(rows) for seed, value in enumerate(row)}


def test_mean_and_spread_by_hand() -> None:
    found = summarise(by_seed([1.0, 3.0], [4.0, 8.0]))
    assert found is not None
    assert (found.mean, found.images, found.seeds) == (4.0, 2, 2)
    assert found.sd == pytest.approx(math.sqrt(8))  # of 2 and 6
    assert found.seed_sd == pytest.approx(math.sqrt((2 + 8) / 2))


def test_an_image_counts_once_however_many_seeds_it_has() -> None:
    found = summarise({("a", 0): 0.0, ("a", 1): 0.0, ("a", 2): 0.0, ("b", 0): 10.0})
    assert found is not None and found.mean == 5.0 and found.seed_sd == 0.0 and found.seeds == 3
    uneven = summarise(by_seed([0.0, 2.0], [0.0, 3.0, 6.0]))  # variances 2 and 9, of 1 and 2 degrees of freedom
    assert uneven is not None and uneven.seed_sd == pytest.approx(math.sqrt((2 + 2 * 9) / 3))


def test_one_value_has_no_spread_and_none_no_mean() -> None:
    found = summarise({("a", None): 7.0, ("b", 0): math.nan, ("c", 0): math.inf})
    assert found is not None
    assert (found.mean, found.sd, found.seed_sd, found.images, found.seeds) == (7.0, None, None, 1, 1)
    assert summarise({("a", 0): math.nan}) is None and summarise({}) is None


def test_the_interval_is_that_of_all_resamples() -> None:
    differences = [-0.5, 0.3, 1.1, 2.0, 2.2]
    means = sorted(np.mean(draw) for draw in itertools.product(differences, repeat=5))
    found = paired_difference(by_seed(*[[d + 30] for d in differences]), by_seed(*[[30.0]] * 5))
    assert found is not None
    assert found.mean == pytest.approx(1.02) and (found.images, found.pairs, found.better) == (5, 5, 4)
    assert found.low == pytest.approx(np.quantile(means, 0.025), abs=0.06)
    assert found.high == pytest.approx(np.quantile(means, 0.975), abs=0.06)


def test_the_interval_covers_the_mean_of_many_images_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(60):
        differences = rng.standard_normal(40)[:, None]
        found = paired_difference(by_seed(*differences.tolist()), by_seed(*[[0.0]] * 40))
        assert found is not None and found.low is not None and found.high is not None
        covered += found.low < 0 < found.high
    assert 51 <= covered <= 60


def test_images_are_resampled_and_not_seeds() -> None:
    # Ten seeds of an image agree: thirty pairs are three images, and the interval is theirs.
    one = paired_difference(by_seed([1.0], [2.0], [6.0]), by_seed([0.0], [0.0], [0.0]))
    ten = paired_difference(by_seed([1.0] * 10, [2.0] * 10, [6.0] * 10), by_seed(*[[0.0] * 10] * 3))
    assert one is not None and ten is not None
    assert (one.mean, one.low, one.high, one.images) == (ten.mean, ten.low, ten.high, ten.images)
    assert (one.pairs, ten.pairs) == (3, 30)


def test_what_follows_the_image_in_a_key_is_averaged_from_the_last_on() -> None:
    # At x2 two seeds, at x4 four: both scales count alike, and three photographs are three images.
    scales = {"a": ([1.0, 3.0], [0.0] * 4), "b": ([5.0, 5.0], [1.0] * 4), "c": ([0.0, 2.0], [8.0, 8.0, 0.0, 0.0])}
    values = {
        (image, scale, seed): value
        for image, both in scales.items()
        for scale, seeds in zip((2, 4), both, strict=True)
        for seed, value in enumerate(seeds)
    }
    found = paired_difference(values, dict.fromkeys(values, 0.0))
    alone = paired_difference(by_seed([1.0], [3.0], [2.5]), by_seed([0.0], [0.0], [0.0]))
    assert found is not None and alone is not None
    assert (found.mean, found.low, found.high, found.images) == (alone.mean, alone.low, alone.high, 3)
    assert found.pairs == 18


def test_only_what_both_know_is_paired() -> None:
    first = {("a", 0): 1.0, ("a", 1): 9.0, ("b", 0): 2.0, ("c", 0): math.nan, ("d", 0): 4.0}
    second = {("a", 0): 0.0, ("b", 0): 4.0, ("b", 1): 1.0, ("c", 0): 1.0}
    found = paired_difference(first, second)
    assert found is not None and (found.mean, found.images, found.pairs) == (-0.5, 2, 2)
    assert found.low is None and found.high is None
    assert paired_difference({("a", 0): 1.0}, {("b", 0): 1.0}) is None


def test_no_interval_of_two_images_and_an_exact_one_without_spread() -> None:
    assert FEWEST == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = paired_difference(by_seed([2.0], [2.0], [2.0]), by_seed([1.5], [1.5], [1.5]))
    assert found is not None and (found.low, found.high, found.mean) == (0.5, 0.5, 0.5)


def test_order_changes_nothing() -> None:
    rng = np.random.default_rng(2)
    first, second = (by_seed(*rng.standard_normal((6, 3)).tolist()) for _ in range(2))
    shuffled = list(first.items())
    random.Random(0).shuffle(shuffled)
    assert summarise(dict(shuffled)) == summarise(first)
    assert paired_difference(dict(shuffled), second) == paired_difference(first, second)
    renamed = [{(image[::-1] + "é", seed): value for (image, seed), value in each.items()} for each in (first, second)]
    backwards = [dict(reversed(each.items())) for each in renamed]
    mirrored = [{(f"{9 - int(image[6])}", seed): v for (image, seed), v in each.items()} for each in (first, second)]
    for pair in (renamed, backwards, mirrored):
        assert paired_difference(*pair) == paired_difference(first, second)
    back = paired_difference(second, first)
    found = paired_difference(first, second)
    assert back is not None and found is not None
    assert back.mean == pytest.approx(-found.mean) and back.better == 6 - found.better


def test_a_difference_says_itself() -> None:
    assert str(Difference(0.156, 0.09, 0.2449, images=9, pairs=9, better=7)) == "+0.16 [+0.09, +0.24]"
    assert str(Difference(-0.5, None, None, images=2, pairs=2, better=0)) == "-0.50"
