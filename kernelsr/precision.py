"""How a machine multiplies."""

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


def multiplies_bf16(unknown: bool = True) -> bool:
    """Whether the processor has instructions for bfloat16; of one of which PyTorch does not tell, ``unknown``."""
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    if found.get("architecture") != "x86_64":
        return unknown
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))
