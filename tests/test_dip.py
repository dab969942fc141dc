"""The hourglass's ways to be quick and small: the same numbers, or for bfloat16 numbers as near as chaos lets two runs be."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from cases import photograph, problem, rng, true_kernel
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from kernelsr import priors, restorers, solvers
from kernelsr.configure import compose_config, solve
from kernelsr.degradation import degrade
from kernelsr.memory import keep_freed_memory
from kernelsr.problem import Problem, Progress
from kernelsr.restorers.dip import Reflected

SMALL = {"channels": 8, "skip": 4}


def built(posed: Problem, seed: int = 0, **settings: object) -> restorers.Dip:
    return restorers.Dip(posed, rng(seed), **{**SMALL, **settings})


def gradients(dip: restorers.Dip, posed: Problem) -> tuple[Tensor, dict[str, Tensor]]:
    """The image, and the gradient of its data loss in each parameter."""
    image = dip(true_kernel())
    (degrade(image, true_kernel().to(image), posed.scale) - posed.lr).square().mean().backward()
    return image.detach(), {name: p.grad for name, p in dip.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("side", [24, 25])  # 48 and 50 pixels: an enlargement that fits, and those that are cropped
def test_recomputation_changes_no_number(side: int) -> None:
    posed = problem(2, side)
    image, plain = gradients(built(posed), posed)
    again, recomputed = gradients(built(posed, checkpoint=True), posed)
    assert torch.equal(image, again) and plain.keys() == recomputed.keys() and len(plain) > 90
    for name, gradient in plain.items():
        assert torch.equal(gradient, recomputed[name]), name


def test_recomputation_changes_no_step() -> None:
    posed = problem(2, 24)
    paths: list[list[Progress]] = []
    for checkpoint in (False, True):
        paths.append([])
        prior = priors.Gaussian(posed, rng())
        solvers.joint(posed, prior, built(posed, checkpoint=checkpoint), steps=5, on_step=paths[-1].append)
    for first, second in zip(*paths, strict=True):
        assert torch.equal(first.image, second.image) and torch.equal(first.kernel, second.kernel)


def held(dip: restorers.Dip) -> int:
    """Bytes that a forward pass leaves for its backward."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        image = dip(true_kernel())
    assert image.requires_grad
    return sum(event.self_cpu_memory_usage for event in recorded.events())


def test_recomputation_holds_half_as_much() -> None:
    posed = problem(2, 64, dtype=torch.float32)
    assert held(built(posed, checkpoint=True)) < 0.55 * held(built(posed))


@pytest.mark.parametrize("has", ["avx512_bf16", "amx_bf16", ""])
def test_bfloat16_without_instructions_for_it_is_warned_of(has: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False} | ({has: True} if has else {})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    posed = problem(2, 36, dtype=torch.float32)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        built(posed)
        assert not heard
        built(posed, precision="bf16")
    assert [("no instructions for bfloat16" in str(warning.message)) for warning in heard] == ([] if has else [True])


def test_bfloat16_is_inside_and_everything_else_is_as_it_was() -> None:
    posed = problem(2, 48, dtype=torch.float32)
    image, plain = gradients(built(posed), posed)
    half, rounded = gradients(built(posed, precision="bf16"), posed)
    assert half.dtype == torch.float32 and all(gradient.dtype == torch.float32 for gradient in rounded.values())
    # Measured on three seeds: 0.003 to 0.005 and 0.94 to 0.97; the coarsest scale's batch norm sees nine pixels.
    assert 0 < (half - image).abs().mean() < 0.01
    ours, theirs = (torch.cat([g[name].flatten() for name in plain]) for g in (plain, rounded))
    assert torch.cosine_similarity(ours, theirs, 0) > 0.9
    # An image in bfloat16 would have at most 256 values between a half and one.
    assert half.unique().numel() > 20_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_padding_stays_in_the_type_of_its_image(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    types, pad = [], F.pad

    def padded(*arguments: object, **settings: object) -> Tensor:
        result = pad(*arguments, **settings)
        types.append(result.dtype)
        return result

    monkeypatch.setattr(F, "pad", padded)
    with torch.autocast("cpu", torch.bfloat16):
        Reflected(3, 4)(torch.rand(1, 3, 8, 8, generator=rng()).to(dtype))
    assert types == [dtype]


def ends(precision: str, seed: int, posed: Problem, hr: Tensor) -> float:
    """The image's PSNR after 60 steps."""
    prior, dip = priors.Flow(posed, rng(seed), start=20), built(posed, seed, channels=16, precision=precision)
    image = solvers.joint(posed, prior, dip, steps=60, ssim_steps=20).image
    return -10 * (image - hr).square().mean().log10().item()


def test_bfloat16_ends_where_float32_does() -> None:
    hr = photograph(64, torch.float32)
    posed = Problem(degrade(hr, true_kernel().float(), 2), 2)
    single = [ends("float32", seed, posed, hr) for seed in range(3)]
    half = [ends("bf16", seed, posed, hr) for seed in range(3)]
    spread = max(single) - min(single)
    assert min(single) - spread < sum(half) / 3 < max(single) + spread


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ValueError, match="restorer.precision is 'fp16'; choose float32, or bf16"):
        built(problem(2), precision="fp16")


@pytest.mark.parametrize("restorer", ["dip", "full/dip"])
def test_the_command_line_has_both_settings(restorer: str) -> None:
    words = ["prior=gaussian", f"restorer={restorer}", "restorer.channels=8", "restorer.skip=4", "solver.steps=2"]
    posed = problem(2, 24, dtype=torch.float32)
    images = []
    for more in ([], ["restorer.checkpoint=true"], ["restorer.precision=bf16", "restorer.checkpoint=true"]):
        estimate = solve(compose_config([*words, "scale=2", *more]), posed, "image", lambda progress: None)
        assert estimate.image is not None
        images.append(estimate.image)
    assert torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])


FAULTS = """
import resource, torch
from kernelsr.memory import keep_freed_memory
torch.set_num_threads(1)

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.zeros(16 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
kept = keep_freed_memory()
faults()
faults()
print(kept, before, faults())
"""


def test_freed_memory_is_kept() -> None:
    pytest.importorskip("resource")
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    kept, before, after = done.stdout.split()
    if kept == "False":
        pytest.skip("the C library cannot keep freed memory")
    # Five blocks of 64 MB: fresh pages each time before, none after.
    assert int(after) < 0.1 * int(before)


def test_a_system_without_mallopt_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert keep_freed_memory() is False
