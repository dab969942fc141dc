"""The border to USRNet's released networks: their names in, our UnrolledNetwork out.

Their data module convolves, so their scripts flip the kernel of the cross-correlation before it enters. Our data step has
the same transfer function without a flip: what to a user of their code is a flipped kernel is here the kernel itself.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch

from kernelsr import unrolled
from kernelsr.official import fetch_weights


def load(weights: str = "bundled") -> unrolled.UnrolledNetwork:
    """A trained USRNet, ready to be a restorer.

    Args:
        weights: ``bundled`` (ours, tiny), ``official`` (the authors' tiny one, found or fetched by SHA-256), or the path of a
            ``.safetensors`` of experiments/train_usrnet.py or a ``.pth`` of USRNet's code, tiny or full.
    """
    if weights == "bundled":
        return unrolled.bundled()
    if weights == "official":
        return from_released(fetch_weights("usrnet_tiny.pth"))
    path = Path(weights).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"weights is {weights!r}, which is no file; choose bundled, official or the path of a USRNet"
        )
    return unrolled.load(path) if path.suffix == ".safetensors" else from_released(path)


def own_name(name: str) -> str:
    """Our name of one of their parameters: ``p.m_up3.1.res.0.weight`` is ``denoiser.up.2.1.first.weight``."""
    name = re.sub(r"^p\.m_(down|up)(\d)", lambda match: f"denoiser.{match[1]}.{int(match[2]) - 1}", name)
    name = re.sub(r"^p\.m_", "denoiser.", name)
    name = re.sub(r"^h\.mlp", "schedule", name)
    return name.replace("res.0", "first").replace("res.2", "second")


def from_released(path: Path) -> unrolled.UnrolledNetwork:
    """A USRNet of any size from a ``.pth`` of its released code; nothing in it is executed."""
    try:
        state = {own_name(key): value for key, value in torch.load(path, map_location="cpu", weights_only=True).items()}
        last = state["schedule.4.bias"]
        levels = [key for key in state if re.fullmatch(r"denoiser\.down\.\d+\.\d+\.weight", key)]
        channels = (len(state["denoiser.head.weight"]), *(len(state[key]) for key in sorted(levels)))
        blocks = len([key for key in state if re.fullmatch(r"denoiser\.body\.\d+\.first\.weight", key)])
        with torch.random.fork_rng(devices=[]):
            network = unrolled.UnrolledNetwork(len(last) // 2, channels, len(state["schedule.0.bias"]), blocks)
        network.load_state_dict(state)
    except (pickle.UnpicklingError, EOFError, KeyError, AttributeError, TypeError, RuntimeError, OSError) as error:
        raise ValueError(
            f"{path} is no USRNet of the released code: {error}; give its usrnet.pth or usrnet_tiny.pth, or a .safetensors "
            "of experiments/train_usrnet.py"
        ) from error
    return network.eval().requires_grad_(False)
