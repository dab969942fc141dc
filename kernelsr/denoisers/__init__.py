"""Denoisers: the image prior of a diffusion, a part of its own; one a file.

A denoiser is a frozen module, (noisy, sigma) -> the mean of the clean colour images behind clean + sigma * noise, with images
(n, 3, H, W) on [-1, 1], sigma (n, 1, 1, 1), and H and W multiples of its ``multiple``.
"""

from __future__ import annotations

from pathlib import Path

from kernelsr.denoisers import guided, small
from kernelsr.denoisers.guided import Guided
from kernelsr.denoisers.small import Small

__all__ = ["Guided", "Small", "load"]


def load(weights: str = "bundled") -> Small | Guided:
    """A denoiser by the name of its weights.

    Args:
        weights: ``bundled`` (ours, small), the path of a ``.safetensors`` of experiments/train_denoiser.py, or of OpenAI's
            ``256x256_diffusion_uncond.pt``.
    """
    if weights == "bundled":
        return small.bundled()
    path = Path(weights).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"weights is {weights!r}, which is no file; choose bundled, or the path of a denoiser: a .safetensors of "
            "experiments/train_denoiser.py, or OpenAI's 256x256_diffusion_uncond.pt (2.1 GB, "
            "https://openaipublic.blob.core.windows.net/diffusion/jul-2021/256x256_diffusion_uncond.pt)"
        )
    return small.load(path) if path.suffix == ".safetensors" else guided.load(path)
