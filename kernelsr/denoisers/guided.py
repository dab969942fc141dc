"""The 256x256 unconditional denoiser of guided diffusion, in the layout of OpenAI's checkpoint, and how that is read.

Dhariwal & Nichol (2021), *Diffusion Models Beat GANs on Image Synthesis*, appendix; 552,814,086 parameters. Its modules carry
the names of the checkpoint, 256x256_diffusion_uncond.pt.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kernelsr.denoisers.schedule import noise_levels

WIDTH, WIDTHS = 256, (1, 1, 2, 2, 4, 4)
BLOCKS = 2
ATTENDING = (8, 16, 32)
"""Scales, as factors of reduction, that have attention: images of 32, 16 and 8 pixels a side."""
HEAD = 64
CODE = 4 * WIDTH


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(32, channels)


class ResBlock(nn.Module):
    """A residual block whose second normalisation is scaled and shifted by the time; it may halve or double the grid."""

    def __init__(self, inputs: int, outputs: int, resize: float = 1.0):
        super().__init__()
        self.resize = resize
        self.in_layers = nn.Sequential(_norm(inputs), nn.SiLU(), nn.Conv2d(inputs, outputs, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(CODE, 2 * outputs))
        last = nn.Conv2d(outputs, outputs, 3, padding=1)
        # The third place is a dropout of rate zero in the released network.
        self.out_layers = nn.Sequential(_norm(outputs), nn.SiLU(), nn.Identity(), last)
        self.skip_connection = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        norm, activation, convolution = self.in_layers
        inside = convolution(self._resized(activation(norm(x))))
        gain, shift = self.emb_layers(code)[:, :, None, None].chunk(2, 1)
        norm, activation, _, convolution = self.out_layers
        inside = convolution(activation(norm(inside) * (1 + gain) + shift))
        return self.skip_connection(self._resized(x)) + inside

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize == 1:
            return x
        return F.avg_pool2d(x, 2) if self.resize < 1 else F.interpolate(x, scale_factor=2, mode="nearest")


class Attention(nn.Module):
    """Self-attention over all pixels beside the identity, 64 channels a head; queries, keys and values interleave by head."""

    def __init__(self, channels: int):
        super().__init__()
        self.heads = channels // HEAD
        self.norm = _norm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        pixels = x.flatten(2)
        heads = self.qkv(self.norm(pixels)).unflatten(1, (self.heads, 3, HEAD)).mT
        query, key, value = heads.unbind(2)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return (pixels + self.proj_out(mixed.mT.flatten(1, 2))).view_as(x)


class Stage(nn.Sequential):
    """Blocks in a row, each of which may look at the time's code."""

    def forward(self, x: Tensor, code: Tensor) -> Tensor:  # type: ignore[override]
        for block in self:
            x = block(x) if isinstance(block, nn.Conv2d) else block(x, code)
        return x


class Guided(nn.Module):
    """The mean of the clean images behind a noisy one, from the noise that the released network predicts.

    The images are colour images on [-1, 1] of sides that are multiples of 32; it was trained on 256x256.
    """

    multiple = 32

    def __init__(self) -> None:
        super().__init__()
        self.time_embed = nn.Sequential(nn.Linear(WIDTH, CODE), nn.SiLU(), nn.Linear(CODE, CODE))
        stages, kept, channels, factor = [Stage(nn.Conv2d(3, WIDTH, 3, padding=1))], [WIDTH], WIDTH, 1
        for level, width in enumerate(WIDTHS):
            for _ in range(BLOCKS):
                stages.append(_stage(channels, width * WIDTH, factor))
                channels = width * WIDTH
                kept.append(channels)
            if level < len(WIDTHS) - 1:
                stages.append(Stage(ResBlock(channels, channels, 0.5)))
                kept.append(channels)
                factor *= 2
        self.input_blocks = nn.ModuleList(stages)
        self.middle_block = Stage(ResBlock(channels, channels), Attention(channels), ResBlock(channels, channels))
        stages = []
        for level, width in reversed(list(enumerate(WIDTHS))):
            for number in range(BLOCKS + 1):
                stage = _stage(channels + kept.pop(), width * WIDTH, factor)
                channels = width * WIDTH
                if level and number == BLOCKS:
                    stage.append(ResBlock(channels, channels, 2))
                    factor //= 2
                stages.append(stage)
        self.output_blocks = nn.ModuleList(stages)
        # Three channels of noise, and three of the variance that sampling here does not use.
        self.out = nn.Sequential(_norm(channels), nn.SiLU(), nn.Conv2d(channels, 6, 3, padding=1))

    def forward(self, noisy: Tensor, sigma: Tensor) -> Tensor:
        """The clean image (n, 3, H, W) behind ``noisy`` = clean + sigma * noise; sigma (n, 1, 1, 1).

        Of the times that the network knows, the one whose noise level is nearest, by ratio.
        """
        distance = sigma.double().flatten().log()[:, None] - noise_levels().log().to(sigma.device)
        times = distance.abs().argmin(1).to(noisy)
        noise = self.predict(noisy / (1 + sigma.square()).sqrt(), times)[:, :3]
        return noisy - sigma * noise

    def predict(self, x: Tensor, times: Tensor) -> Tensor:
        """Noise and variance (n, 6, H, W), as the released network gives them, for x_t and times (n,) from 0 to 999."""
        code = self.time_embed(_waves(times))
        kept = []
        for stage in self.input_blocks:
            x = stage(x, code)
            kept.append(x)
        x = self.middle_block(x, code)
        for stage in self.output_blocks:
            x = stage(torch.cat([x, kept.pop()], 1), code)
        return self.out(x)


def _stage(inputs: int, outputs: int, factor: int) -> Stage:
    return Stage(ResBlock(inputs, outputs), *([Attention(outputs)] if factor in ATTENDING else []))


def _waves(times: Tensor) -> Tensor:
    """Times (n,) as cosines and sines (n, 256) of frequencies from 1 down to 1/10000; Vaswani et al. (2017)."""
    half = WIDTH // 2
    exponents = torch.arange(half, device=times.device, dtype=times.dtype) / half
    angles = times[:, None] * 10000**-exponents
    return torch.cat([angles.cos(), angles.sin()], 1)


def load(path: Path) -> Guided:
    """The denoiser from OpenAI's 256x256_diffusion_uncond.pt; nothing in the file is executed.

    Raises:
        ValueError: the file cannot be read, or its tensors are not those of this network; names the first that differ.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        found = {name: tuple(tensor.shape) for name, tensor in state.items()}
    except (pickle.UnpicklingError, EOFError, AttributeError, RuntimeError, OSError) as error:
        raise ValueError(
            f"{path} is no checkpoint of weights: {error}; give OpenAI's 256x256_diffusion_uncond.pt, or a .safetensors of "
            "experiments/train_denoiser.py"
        ) from error
    with torch.device("meta"):
        denoiser = Guided()
    wanted = {name: tuple(tensor.shape) for name, tensor in denoiser.state_dict().items()}
    if found != wanted:
        differ = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        told = ", ".join(f"{name} (there {found.get(name)}, here {wanted.get(name)})" for name in differ[:3])
        raise ValueError(
            f"{path} is not OpenAI's 256x256_diffusion_uncond.pt: {len(differ)} tensors differ, such as {told}; "
            "the unconditional model of 256x256 images is wanted"
        )
    denoiser.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
    return denoiser.eval().requires_grad_(False)
