"""The border to ONNX: any exported image network, run by onnxruntime on the CPU; the extra ``onnx``.

Its channels, sizes and range of values are its own; ours are images (n, C, h, w) in [0, 1].
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kernelsr.enlarge import continued

TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


class OnnxNetwork:
    """An exported network: images (n, ``channels``, h, w) in [0, 1] to images of an integer times their size.

    Args:
        path: the ``.onnx`` file. It has one input, (1, 3, h, w) or (1, 1, h, w), of fixed or free size.
        peak: the network's own white: 1 or 255.
        multiple: sides that the network takes are multiples of this (8 for SwinIR's windows). Images are continued by
            their mirror image below and to the right, to that or to the fixed size, and what it makes of that is cut off.

    Attributes:
        channels: 3, or 1 for a network of brightness.
        largest: the side of the largest square that it takes at once, or None for any.

    Raises:
        ValueError: the file is no such network; says what it is.
        FileNotFoundError: there is no such file, or no onnxruntime.
    """

    def __init__(self, path: str | Path, *, peak: float = 1.0, multiple: int = 1):
        self.path, self.peak, self.multiple = Path(path).expanduser(), peak, multiple
        if peak <= 0:
            raise ValueError(f"peak is {peak}; it is the value of white in the network's images, 1 or 255")
        if multiple < 1:
            raise ValueError(f"multiple is {multiple}; set it to at least 1")
        if not self.path.is_file():
            raise FileNotFoundError(f"there is no file {path}; give the path of an exported network, network.onnx")
        if find_spec("onnxruntime") is None:
            raise FileNotFoundError(
                f"to run {path}, onnxruntime is not installed: pip install onnxruntime (or kernelsr[onnx])"
            )
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        try:
            self.session = onnxruntime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no class in common
            raise ValueError(f"{path} is no network that onnxruntime can run: {error}") from error
        self.name, self.dtype, shape = self._input()
        self.channels = shape[1] if isinstance(shape[1], int) else 3
        self.sides = [side if isinstance(side, int) else None for side in shape[2:]]
        self.largest = min((side for side in self.sides if side), default=None)

    def __call__(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        below, right = (self._more(size, side) for size, side in zip((height, width), self.sides, strict=True))
        arrays = continued(images.detach().cpu(), 0, (below, right)).double().numpy() * self.peak
        large = torch.from_numpy(np.concatenate([self._one(array[None]) for array in arrays])).double() / self.peak
        ratio = large.shape[3] // (width + right)
        return large[..., : ratio * height, : ratio * width].to(images)

    def _one(self, array: np.ndarray) -> np.ndarray:
        try:
            output = self.session.run(None, {self.name: array.astype(self.dtype)})[0]
        except Exception as error:  # onnxruntime's errors have no class in common
            raise ValueError(
                f"{self.path} does not take an image of {array.shape[3]}x{array.shape[2]} ({error}); if it wants multiples "
                "of its window, set restorer.multiple"
            ) from error
        ratio = output.shape[3] // array.shape[3] if output.ndim == 4 else 0
        if output.shape != (1, array.shape[1], ratio * array.shape[2], ratio * array.shape[3]) or not ratio:
            raise ValueError(
                f"{self.path} makes {output.shape} of {array.shape}, which is no enlargement by an integer; "
                "choose a network with padded convolutions and as many channels out as in"
            )
        return np.asarray(output)

    def _more(self, size: int, side: int | None) -> int:
        """By how many pixels a side has to grow to be what the network takes."""
        return side - size if side else -size % self.multiple

    def _input(self) -> tuple[str, type, list[int | str | None]]:
        """The name, type and shape of the input; ValueError where it is no image."""
        inputs = self.session.get_inputs()
        first = inputs[0]
        if len(inputs) != 1:
            names = ", ".join(entry.name for entry in inputs)
            raise ValueError(f"{self.path} has the inputs {names}; choose a network whose one input is the image")
        shape = list(first.shape)
        # Free sizes are names, or nothing.
        fixed = [size if isinstance(size, int) else 0 for size in shape]
        if len(fixed) != 4 or fixed[0] > 1 or fixed[1] not in (0, 1, 3) or fixed[3] in (1, 3):
            raise ValueError(f"{self.path} takes {shape}; choose a network that takes (1, 3, h, w) or (1, 1, h, w)")
        if first.type not in TYPES:
            raise ValueError(f"{self.path} takes {first.type}; choose a network of floats, {', '.join(TYPES)}")
        return first.name, TYPES[first.type], shape
