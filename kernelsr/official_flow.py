"""The border to FKP's released flows: their names and layout in, our KernelFlow out."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch

from kernelsr import flows
from kernelsr.official import fetch_weights


def load(scale: int, weights: str = "bundled") -> flows.KernelFlow:
    """The flow of FKP for a scale, ready to be a prior.

    Args:
        weights: ``bundled`` (ours), ``official`` (the authors' for x2, x3, x4, found or fetched by SHA-256), or the path of a
            ``.safetensors`` of experiments/train_flow.py or a ``.pt`` of FKP's code.
    """
    if weights == "bundled":
        return flows.bundled(scale)
    if weights == "official":
        if scale not in (2, 3, 4):
            raise ValueError(
                f"the authors released no flow for scale {scale}, only for 2, 3 and 4; use weights=bundled"
            )
        return from_released(fetch_weights(f"FKP_x{scale}.pt"))
    path = Path(weights).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"weights is {weights!r}, which is no file; choose bundled, official or the path of a flow"
        )
    return flows.load(path) if path.suffix == ".safetensors" else from_released(path)


def from_released(path: Path) -> flows.KernelFlow:
    """A flow from a file of FKP's released code (a ``.pt`` with ``model_state``); nothing in it is executed."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)["model_state"]
        flow = flows.KernelFlow(
            int(state["kernel_size"]), len(state["net.0.s_net.0.bias"]), float(state["normalization"])
        )
        layers = [(re.fullmatch(r"net\.(\d+)\.(.+)", key), value) for key, value in state.items()]
        last = max(int(match[1]) for match, _ in layers if match)
        own = flow.state_dict()
        found = {key: value for key, value in own.items() if not key.startswith("flow.flows.")}
        for match, value in layers:
            if match:
                # They count layers from data to latent, normflows from latent to data; only the names differ otherwise.
                name = match[2].replace("s_net", "s").replace("t_net", "t").replace("mask", "b")
                key = f"flow.flows.{last - int(match[1])}.{name}"
                found[key] = value.view_as(own[key])
        flow.load_state_dict(found)
    except (pickle.UnpicklingError, EOFError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise ValueError(f"{path} is no flow of FKP's released code: {error}") from error
    return flow.eval().requires_grad_(False)
