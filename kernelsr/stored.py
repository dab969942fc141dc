"""Trained networks as safetensors: tensors only, and what rebuilds the network in the header, as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def save(
    network: nn.Module, shape: Sequence[str], path: Path, metadata: Mapping[str, object], *, half: bool = False
) -> None:
    """Write a network; ``shape`` names its attributes that rebuild it, ``metadata`` travels along."""
    from safetensors.torch import save_file

    header = {**{name: getattr(network, name) for name in shape}, **metadata}
    state = {key: (value.half() if half else value).contiguous() for key, value in network.state_dict().items()}
    save_file(state, path, metadata={key: json.dumps(value) for key, value in header.items()})


def load(build: Callable[..., Network], shape: Sequence[str], path: Path, what: str) -> Network:
    """A network from a file that ``save`` wrote, frozen, in single precision.

    Raises:
        ValueError: the file is not ``what``.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = {key: json.loads(value) for key, value in (file.metadata() or {}).items()}
            with torch.random.fork_rng(devices=[]):
                network = build(**{name: header[name] for name in shape})
            network.load_state_dict({key: file.get_tensor(key) for key in network.state_dict()})
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} is no {what}: {error}") from error
    return network.eval().requires_grad_(False)
