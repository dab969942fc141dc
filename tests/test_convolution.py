"""The quicker gradient of a convolution's weights is the plain one, and is taken where it is quicker only."""

from __future__ import annotations

import pytest
import torch
from cases import rng
from torch import Tensor
from torch.nn import functional as F

from kernelsr import convolution, restorers
from kernelsr.convolution import FEWEST, ByTaps, convolve, weight_gradient
from kernelsr.problem import Problem


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=rng(), dtype=dtype).to(memory_format=torch.channels_last)


def on(monkeypatch: pytest.MonkeyPatch, capability: str) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)


@pytest.mark.parametrize("block", [1, 200, 10**6])  # a row at once, some, and all
@pytest.mark.parametrize(
    ("images", "size", "stride", "height", "width"),
    [(1, 3, 1, 37, 11), (2, 3, 2, 40, 10), (3, 3, 2, 9, 13), (1, 1, 1, 5, 7), (2, 5, 1, 20, 8)],
)
def test_weights_have_the_plain_gradient(
    images: int, size: int, stride: int, height: int, width: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "BLOCK", block)
    x, weight = drawn(images, 4, height, width), drawn(6, 4, size, size).requires_grad_()
    y = F.conv2d(x, weight, stride=stride)
    slope = drawn(*y.shape)
    (plain,) = torch.autograd.grad(y, weight, slope)
    torch.testing.assert_close(weight_gradient(x, slope, size, stride), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2])
def test_every_gradient_of_it_is_that_of_a_convolution(stride: int) -> None:
    inputs = [drawn(2, 3, 8, 9), drawn(4, 3, 3, 3), drawn(4, 1, 1, 1).flatten()]
    for value in inputs:
        value.requires_grad_()
    assert torch.autograd.gradcheck(lambda *inputs: ByTaps.apply(*inputs, stride), inputs)
    for first in range(3):  # where some of them are asked for only
        asked = [value.detach().requires_grad_(place != first) for place, value in enumerate(inputs)]
        assert torch.autograd.gradcheck(lambda *inputs: ByTaps.apply(*inputs, stride), asked)


def test_it_is_taken_where_it_is_quicker_only(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight = drawn(1, FEWEST, 8, 8, dtype=torch.float32), drawn(4, FEWEST, 3, 3, dtype=torch.float32)
    weight.requires_grad_()

    def taken(x: Tensor, weight: Tensor) -> bool:
        return "ByTaps" in type(convolve(x, weight).grad_fn).__name__

    on(monkeypatch, "AVX2")
    assert taken(x, weight)
    assert not taken(x.double(), weight.double())
    assert not taken(x[:, 1:], weight[:, 1:])
    with torch.autocast("cpu", torch.bfloat16):
        assert not taken(x, weight)
    on(monkeypatch, "AVX512")
    assert not taken(x, weight)


def test_the_hourglass_has_the_same_gradients_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem(torch.rand(1, 3, 40, 36, generator=rng()), 2)
    found, taken = [], []
    apply = ByTaps.apply
    monkeypatch.setattr(ByTaps, "apply", lambda *inputs: taken.append(1) or apply(*inputs))
    for capability in ("AVX512", "AVX2"):
        assert not taken
        on(monkeypatch, capability)
        dip = restorers.Dip(problem, rng(), channels=FEWEST, skip=4)
        (dip(torch.ones(1, 1, 1, 1)) - 0.3).square().mean().backward()
        found.append([parameter.grad for parameter in dip.parameters()])
    assert taken
    for plain, quick in zip(*found, strict=True):
        torch.testing.assert_close(quick, plain, rtol=1e-3, atol=1e-6)
