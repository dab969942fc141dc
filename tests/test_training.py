"""What trainings have in common: rates, the step, the running average."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from experiments.training import cosine, descend, follow, trapezium


def test_the_rate_rises_rests_and_falls() -> None:
    rates = [trapezium(step, 1000, 1e-3) for step in (0, 199, 500, 699, 850, 999)]
    assert rates == pytest.approx([5e-6, 1e-3, 1e-3, 1e-3, 5e-4, 1e-3 / 300])


def test_the_rate_falls_along_a_cosine() -> None:
    assert cosine(0, 1000, 1e-3) == pytest.approx(5e-6) and cosine(0, 1000, 1e-3, rise=1) == 1e-3
    assert cosine(500, 1000, 1e-3) == pytest.approx(5e-4) and cosine(1000, 1000, 1e-3) == pytest.approx(0)


def test_a_step_is_cut_and_forgets_its_gradient() -> None:
    network = nn.Linear(3, 1, bias=False)
    before = network.weight.detach().clone()
    network.weight.grad = torch.tensor([[30.0, 0.0, 40.0]])
    descend(torch.optim.SGD(network.parameters(), lr=1.0), 0.1)
    torch.testing.assert_close(before - network.weight, torch.tensor([[0.06, 0.0, 0.08]]))
    assert network.weight.grad is None


def test_the_average_follows_weights_and_statistics() -> None:
    network = nn.BatchNorm1d(2)
    average = copy.deepcopy(network)
    with torch.no_grad():
        network.weight.fill_(3.0)
        network.running_mean.fill_(1.0)  # type: ignore[union-attr]
        network.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    follow(average, network, step=1000, ema=0.75)
    assert average.weight.tolist() == [1.5, 1.5] and average.running_mean.tolist() == [0.25, 0.25]  # type: ignore[union-attr]
    assert average.num_batches_tracked == 7
    follow(average, network, step=0, ema=0.75)  # at first it follows quickly
    assert average.weight[0].item() == pytest.approx(2.85)
