"""``restorer=onnx``: tiny networks whose output is known, one for each kind of network that users export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import needs, problem, rng, uniform
from torch import Tensor
from torch.nn import functional as F

from kernelsr import enlarge, onnx_models
from kernelsr.problem import Problem
from kernelsr.restorers import Onnx

BLUR = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32) / 16


class Exported:
    """Writes networks: a 3x3 convolution of each channel, a constant, and a pixel shuffle that repeats pixels."""

    def __init__(self, folder: Path):
        needs("onnx")
        self.folder = folder

    def __call__(
        self,
        channels: int = 3,
        scale: int = 1,
        size: Sequence[int | str | None] = ("h", "w"),
        bias: float = 0.0,
        taps: np.ndarray | None = None,
        block: int = 1,
        kind: str = "FLOAT",
        pads: int = 1,
    ) -> Path:
        from onnx import TensorProto, helper, numpy_helper

        number = np.float16 if kind == "FLOAT16" else np.float32
        middle = np.pad(np.ones((1, 1), np.float32), 1)
        weights = np.zeros((channels * scale**2, channels, 3, 3), number)
        for output in range(len(weights)):
            weights[output, output // scale**2] = middle if taps is None else taps
        constants = {"weights": weights, "bias": np.full(len(weights), bias, number)}
        steps = [("Conv", ["x", "weights", "bias"], {"pads": [pads] * 4})]
        if block > 1:  # only sides that are multiples of the block
            steps += [("SpaceToDepth", [], {"blocksize": block}), ("DepthToSpace", [], {"blocksize": block})]
        steps.append(("DepthToSpace", [], {"blocksize": scale, "mode": "CRD"}))
        nodes = [
            helper.make_node(name, inputs or [f"step{i}"], [f"step{i + 1}"], **settings)
            for i, (name, inputs, settings) in enumerate(steps)
        ]
        ends = [
            helper.make_tensor_value_info("x", getattr(TensorProto, kind), [1, channels, *size]),
            helper.make_tensor_value_info(f"step{len(steps)}", getattr(TensorProto, kind), None),
        ]
        known = [numpy_helper.from_array(value, name) for name, value in constants.items()]
        return self.save(helper.make_graph(nodes, "tiny", ends[:1], ends[1:], known))

    def save(self, graph: object) -> Path:
        from onnx import helper, save

        path = self.folder / f"{len(list(self.folder.iterdir()))}.onnx"
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
        return path


@pytest.fixture
def exported(tmp_path: Path) -> Exported:
    return Exported(tmp_path)


def restored(posed: Problem, path: Path, **settings: object) -> Tensor:
    return Onnx(posed, rng(), path=path, **settings)(torch.zeros(1, 1, 3, 3))


def repeated(lr: Tensor, scale: int) -> Tensor:
    return F.interpolate(lr, scale_factor=scale, mode="nearest")


def near(first: Tensor, second: Tensor, by: float = 1e-6) -> bool:
    return first.shape == second.shape and bool((first - second).abs().max() < by)


# --- the kinds of network


@pytest.mark.parametrize(("scale", "centre"), [(2, "fkp"), (3, "fkp"), (4, "aligned")])
def test_a_network_that_enlarges(exported: Exported, scale: int, centre: str) -> None:
    posed = problem(scale, 13, centre=centre)
    image = restored(posed, exported(scale=scale))
    offset = -(scale - 1) if centre == "fkp" else 0
    assert image.dtype == torch.float64
    assert near(image, repeated(posed.lr, scale).roll((offset, offset), (2, 3)))


def test_a_network_that_keeps_the_size_gets_bicubics_enlargement(exported: Exported) -> None:
    posed = problem(3, 13)
    image = restored(posed, exported(taps=BLUR))
    large = enlarge.bicubic(posed.lr, 3).clamp(0, 1)
    blurred = F.conv2d(
        enlarge.continued(large, 1, (1, 1)).transpose(0, 1), torch.from_numpy(BLUR)[None, None].double()
    ).transpose(0, 1)
    assert near(image, enlarge.settled(blurred, posed))


def test_a_network_of_brightness_restores_y_and_bicubic_the_chroma(exported: Exported) -> None:
    posed = problem(2, 16, centre="aligned")
    image = restored(posed, exported(channels=1, scale=2, bias=0.05))

    def ycc(rgb: Tensor) -> Tensor:
        y = 0.299 * rgb[:, 0] + 0.587 * rgb[:, 1] + 0.114 * rgb[:, 2]
        return torch.stack([y, 0.564 * (rgb[:, 2] - y), 0.713 * (rgb[:, 0] - y)], 1)

    wanted = ycc(enlarge.bicubic(posed.lr, 2))
    wanted[:, 0] = repeated(ycc(posed.lr)[:, :1], 2)[:, 0] + 0.05
    y, cb, cr = wanted[0]
    red, blue = y + cr / 0.713, y + cb / 0.564
    green = (y - 0.299 * red - 0.114 * blue) / 0.587
    assert near(image, torch.stack([red, green, blue])[None].clamp(0, 1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("colours", [1, 2, 5])
def test_any_number_of_channels(exported: Exported, channels: int, colours: int) -> None:
    posed = problem(2, 16, colours=colours, centre="aligned")
    assert near(restored(posed, exported(channels=channels, scale=2)), repeated(posed.lr, 2))


# --- sizes


@pytest.mark.parametrize("size", [(16, 16), (20, 12), (12, "w"), (64, 64)])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_fixed_size_is_served_in_tiles(exported: Exported, scale: int, size: tuple[int, int]) -> None:
    posed = Problem(uniform(1, 3, 23, 29), 2)
    fixed = restored(posed, exported(size=size, scale=scale, taps=BLUR))
    assert near(fixed, restored(posed, exported(scale=scale, taps=BLUR)))


def test_tiles_equal_the_whole(exported: Exported) -> None:
    posed, path = Problem(uniform(1, 3, 23, 29), 2), exported(scale=2, taps=BLUR)
    assert near(restored(posed, path, tile=7, halo=1), restored(posed, path))


def test_sides_that_have_to_be_multiples(exported: Exported) -> None:
    posed, path = problem(2, 13, centre="aligned"), exported(scale=2, block=8)
    assert near(restored(posed, path, multiple=8), repeated(posed.lr, 2))
    with pytest.raises(ValueError, match="restorer.multiple"):
        restored(posed, path)


# --- values


def test_white_may_be_255(exported: Exported) -> None:
    posed = Problem(0.5 * uniform(1, 3, 16, 16), 2, centre="aligned")
    assert near(restored(posed, exported(scale=2, bias=51), peak=255), repeated(posed.lr, 2) + 0.2)


def test_values_outside_the_range_are_clipped(exported: Exported) -> None:
    assert restored(problem(2), exported(scale=2, bias=0.7)).max() == 1


def test_half_precision(exported: Exported) -> None:
    posed = problem(2, 16, centre="aligned")
    assert near(restored(posed, exported(scale=2, kind="FLOAT16")), repeated(posed.lr, 2), 1e-3)


# --- what cannot work says why


def test_no_path_and_no_file(exported: Exported) -> None:
    with pytest.raises(ValueError, match="needs a network; set restorer.path"):
        Onnx(problem(2), rng())
    with pytest.raises(FileNotFoundError, match=r"there is no file .*absent.onnx"):
        Onnx(problem(2), rng(), path=exported.folder / "absent.onnx")
    (exported.folder / "text.onnx").write_text("no network")
    with pytest.raises(ValueError, match="no network that onnxruntime can run"):
        Onnx(problem(2), rng(), path=exported.folder / "text.onnx")


def test_another_scale(exported: Exported) -> None:
    with pytest.raises(ValueError, match="enlarges by 3, and the problem is at scale 2; choose scale=3"):
        restored(problem(2), exported(scale=3))


@pytest.mark.parametrize("shape", [[1, "h", "w", 3], [1, 6, 8, 8], [1, 3, 8], [4, 3, "h", "w"]])
def test_what_is_no_image_network(exported: Exported, shape: list[int | str]) -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "odd", ends[:1], ends[1:])
    with pytest.raises(ValueError, match=r"takes \[.*choose a network that takes \(1, 3, h, w\)"):
        restored(problem(2), exported.save(graph))


def test_two_inputs(exported: Exported) -> None:
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, "h", "w"]) for name in "abc"]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "two", ends[:2], ends[2:])
    with pytest.raises(ValueError, match="has the inputs a, b"):
        restored(problem(2), exported.save(graph))


def test_convolutions_without_padding(exported: Exported) -> None:
    with pytest.raises(ValueError, match="no enlargement by an integer"):
        restored(problem(2), exported(scale=2, pads=0))


@pytest.mark.parametrize(
    ("settings", "said"), [({"peak": 0}, "peak"), ({"multiple": 0}, "multiple"), ({"tile": 0}, "tile")]
)
def test_settings_are_checked(exported: Exported, settings: dict[str, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        restored(problem(2), exported(), **settings)


def test_onnxruntime_that_is_not_installed_is_named(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exported()
    monkeypatch.setattr(onnx_models, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install onnxruntime"):
        restored(problem(2), path)
