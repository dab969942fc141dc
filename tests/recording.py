"""A graph without a GPU: the operations of a step, below autograd and Python, recorded once and run again on their storage.

What a CUDA graph cannot know it does not know either: Python's variables, new tensors, values read by the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kernelsr.replay import Body, Outputs

WAITS = {
    "_local_scalar_dense",  # item, float, a tensor as a condition
    "nonzero",  # and what asks for it: masks as indices
    "masked_select",
    "lift_fresh",  # torch.tensor(number), which comes from the host
    "equal",
    "is_pinned",
    "pin_memory",
}
"""Operations that make a GPU and its host wait for each other, which a recording forbids."""


class Recorded(TorchDispatchMode):
    """A recording of CPU operations. Unlike CUDA's, to record runs the step, so that the first replay has nothing to do."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.fresh = True

    def record(self, body: Body) -> Outputs:
        with self:
            return body()

    def replay(self) -> None:
        if self.fresh:
            self.fresh = False
            return
        with torch.no_grad():
            for operation, positional, named, before in self.calls:
                after = operation(*positional, **named)
                for old, new in zip(tree_leaves(before), tree_leaves(after), strict=True):
                    if isinstance(old, Tensor) and old is not new:
                        old.copy_(new)

    def __torch_dispatch__(
        self, operation: Any, types: Any, positional: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        named = named or {}
        name = operation._schema.name.removeprefix("aten::")
        assert name not in WAITS, f"{operation} makes host and device wait for each other"
        result = operation(*positional, **named)
        if not views(operation):
            self.calls.append((operation, positional, named, result))
        return result


def views(operation: Any) -> bool:
    """Whether an operation only looks at storage that is there."""
    aliases = [value.alias_info for value in operation._schema.returns]
    return bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)


def maker() -> Callable[[], Recorded]:
    return Recorded
