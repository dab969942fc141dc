"""A convolution whose weights have a quick gradient where oneDNN's is slow: without AVX-512, as most laptops are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

BLOCK = 2**21
"""Values of an image that are multiplied at once: of more of them, a copy no longer fits the caches."""
FEWEST = 64
"""Input channels of a convolution, below which oneDNN is about as fast, and with two threads faster."""


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1) -> Tensor:
    """``F.conv2d`` without padding, equal but for rounding, with a quicker gradient of the weights where there is one.

    Args:
        x: (n, c, h, w), for speed in the channels-last layout.
        weight: (o, c, k, k).
        bias: (o,).
    """
    # In trials oneDNN took four to seven times as long for it on AVX2 as for the convolution; on AVX-512 about as long.
    slow = x.device.type == "cpu" and x.dtype == torch.float32 and torch.backends.cpu.get_cpu_capability() == "AVX2"
    if not slow or x.shape[1] < FEWEST or torch.is_autocast_enabled("cpu"):
        return F.conv2d(x, weight, bias, stride)
    return ByTaps.apply(x, weight, bias, stride)


def weight_gradient(x: Tensor, gradient: Tensor, size: int, stride: int = 1) -> Tensor:
    """The gradient (o, c, size, size) of a convolution's weights: over pixels sums of gradient times input, a product a tap.

    Args:
        x: (n, c, h, w), what was convolved, padding included.
        gradient: (n, o, h', w'), of the output.
    """
    pixels, slopes = x.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    images, height, width, outputs = slopes.shape
    count = max(1, BLOCK // (images * width * x.shape[1]))
    total = x.new_zeros(size, size, outputs, x.shape[1])
    for first in range(0, height, count):
        rows = slopes[:, first : first + count]
        matrix, top = rows.reshape(-1, outputs).T, stride * first
        for i in range(size):
            for j in range(size):
                below, right = top + i + stride * rows.shape[1], j + stride * width
                seen = pixels[:, top + i : below : stride, j:right:stride]
                total[i, j] += matrix @ seen.reshape(-1, x.shape[1])
    return total.permute(2, 3, 0, 1)


class ByTaps(torch.autograd.Function):
    """The convolution that has ``weight_gradient`` in its backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv2d(x, weight, bias, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        to_x, to_weight, to_bias = ctx.needs_input_grad[:3]
        plain = [ctx.stride] * 2, [0, 0], [1, 1], False, [0, 0], 1
        # Were the bias's gradient asked for, oneDNN would compute the weights' with it.
        dx = (
            torch.ops.aten.convolution_backward(gradient, x, weight, None, *plain, [True, False, False])[0]
            if to_x
            else None
        )
        dw = weight_gradient(x, gradient, weight.shape[2], ctx.stride) if to_weight else None
        return dx, dw, gradient.sum((0, 2, 3)) if to_bias else None, None
