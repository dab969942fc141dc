"""How many of the processor's threads PyTorch computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def threads_of(number: Any) -> int | None:
    """A setting ``threads``, or a ValueError where it is neither a positive integer nor null."""
    if number is not None and (type(number) is not int or number < 1):
        raise ValueError(f"threads is {number!r}; choose 1, 2, ..., or null for as many as PyTorch takes")
    return number


@contextmanager
def on_threads(number: int | None) -> Iterator[None]:
    """So many inside, and as many as before afterwards; None leaves them as they are.

    A small network is quicker on one: to wake a second one for a tenth of a millisecond's work costs more than it saves.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(before if number is None else number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
