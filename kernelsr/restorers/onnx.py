"""Any exported super-resolution network: SwinIR, EDSR, RCAN, ESRGAN, SRCNN, ESPCN, ..."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from kernelsr.colours import from_threes, grey, in_threes
from kernelsr.enlarge import bicubic, in_tiles, settled
from kernelsr.learner import Restorer
from kernelsr.onnx_models import OnnxNetwork
from kernelsr.problem import Problem


class Onnx(Restorer):
    """The image that a network of your own makes, from an ``.onnx`` file. It ignores the kernel, not the kernel's centre.

    A network that enlarges by the scale gets the LR image; one that keeps the size (SRCNN, VDSR) gets bicubic's. A network
    of brightness restores Y, and bicubic the chroma; of images that are neither grey nor colour, it restores each channel.
    A network of colour images restores others in groups of three. The output is taken to lie on bicubic's grid, as that of
    every network trained on bicubic pairs, and moved to the convention's. Frozen, run once, on the CPU.

    Args:
        path: the ``.onnx`` file; see ``OnnxNetwork`` for what it may be.
        peak: white in the network's images: 1 (SwinIR, ESRGAN, SRCNN) or 255 (EDSR, RCAN as released).
        multiple: sides that the network takes are multiples of this (8 for SwinIR).
        tile: side up to which the network sees an image at once, in its own input's pixels; a fixed size wins.
        halo: pixels around a tile, or around the image, that it sees too.

    Raises:
        ValueError: the file is no such network, or enlarges by another scale.
        FileNotFoundError: there is no such file, or no onnxruntime.
    """

    def __init__(
        self,
        problem: Problem,
        rng: torch.Generator,
        *,
        path: str | Path | None = None,
        peak: float = 1.0,
        multiple: int = 1,
        tile: int = 256,
        halo: int = 16,
    ):
        super().__init__()
        if path is None:
            raise ValueError("restorer=onnx needs a network; set restorer.path=network.onnx (or nonblind.path)")
        if tile < 1 or halo < 0:
            raise ValueError(f"tile is {tile} and halo {halo}; set restorer.tile to at least 1 and restorer.halo to 0")
        network = OnnxNetwork(path, peak=peak, multiple=multiple)
        if network.largest:
            halo = min(halo, network.largest // 4)
            tile = min(tile, network.largest - 2 * halo)
        self.scale, self.network, self.tile, self.halo = problem.scale, network, tile, halo
        self.register_buffer("image", settled(self._restored(problem.lr).clamp(0, 1), problem))

    def forward(self, kernel: Tensor) -> Tensor:
        return self.get_buffer("image")

    def _restored(self, lr: Tensor) -> Tensor:
        """The image on the aligned grid, by the channels that the network knows."""
        channels = lr.shape[1]
        if self.network.channels == 3:
            return from_threes(self._enlarged(in_threes(lr)), channels)
        if channels == 3:
            luma = grey(lr)
            # With the chroma as they are, a change of Y is the same change of R, G and B.
            return bicubic(lr, self.scale) + self._enlarged(luma) - bicubic(luma, self.scale)
        return self._enlarged(lr.transpose(0, 1)).transpose(0, 1)

    def _enlarged(self, lr: Tensor) -> Tensor:
        """(n, C, sh, sw) of (n, C, h, w), by what kind of network it turns out to be."""
        large = in_tiles(self.network, lr, tile=self.tile, halo=self.halo)
        ratio = large.shape[-1] // lr.shape[-1]
        if ratio == 1:
            return in_tiles(self.network, bicubic(lr, self.scale).clamp(0, 1), tile=self.tile, halo=self.halo)
        if ratio != self.scale:
            raise ValueError(
                f"restorer=onnx: {self.network.path} enlarges by {ratio}, and the problem is at scale {self.scale}; choose "
                f"scale={ratio} or another network"
            )
        return large
