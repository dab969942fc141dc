"""How a GPU multiplies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def multiplying(*, tf32: bool = False, search: bool = False) -> Iterator[None]:
    """How a GPU multiplies inside: with TF32's ten bits, and by the convolutions that a search finds fastest."""
    cudnn, matrices = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matrices.allow_tf32, cudnn.benchmark
    cudnn.allow_tf32, matrices.allow_tf32, cudnn.benchmark = tf32, tf32, search
    try:
        yield
    finally:
        cudnn.allow_tf32, matrices.allow_tf32, cudnn.benchmark = before
