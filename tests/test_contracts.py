"""The contracts of learner.py, over every YAML of a group, away from initialisation; and every YAML composes and runs.

A new prior or restorer is found here by its YAML.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cases import needs, normal, problem, rng, same_size_network, uniform
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from kernelsr import solvers
from kernelsr.configure import solve
from kernelsr.families import fkp_variances, gaussian_kernel, kernel_size_of, mean_kernel
from kernelsr.learner import KernelPrior, Learner, Restorer
from kernelsr.metrics import kernel_psnr
from kernelsr.paths import CONF
from kernelsr.problem import Estimate, Problem, Progress

# What makes a part small enough for a test, by name of its YAML; anything else is as configured.
SMALL = {
    "dkp": ["prior.rehearsal=3"],
    "dip": ["restorer.channels=8", "restorer.skip=4"],
    "kernelgan": ["nonblind.steps=2"],
    "zssr": ["restorer.steps=2", "restorer.width=8"],
    "kernelgan_fkp": ["solver.batch=2"],
    "pool": ["prior.count=30"],
    "diffusion": ["restorer.steps=2"],
    "realesrgan": ["restorer.model=realesr-animevideov3"],
    "onnx": [f"restorer.path={same_size_network()}"],
}
# Kernels that the flow decodes sum to one only about: 0.68-1.25 for FKP's, and nothing keeps the others from it.
# KernelGAN's generator is free in sign and sum; only its penalty holds them.
SUMS = {"fkp": (0.5, 1.5), "repeated": (0.5**2, 1.5**2), "deep_linear": (-inf, inf)}
NOT_RANDOM = {
    "softmax",
    "gaussian",
    "fkp",
    "inr",
    "spectral",
    "amortised",
    "repeated",
    "bicubic",
    "wiener",
    "usrnet",
    "realesrgan",
    "srmd",
    "onnx",
}
# Constants that batch norm takes out again: their gradient is zero by architecture. A convolution's bias before a batch
# norm; the shift of `join` and of the non-local block's last batch norm, for either is a constant of each channel that a
# reflect-padded convolution hands on, as another constant, to the next batch norm; and so is what the query's bias adds
# to the non-local block, which is linear in the query.
NO_GRADIENT = {
    "dip": re.compile(r"(skip|down|down2|up|up2)\.0\.bias|join\.bias|down\.2\.(out\.[01]|query)\.bias"),
}


def yamls(group: str) -> list[str]:
    """A group's choices that are something."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if path.stem not in ("base", "none", "own"))


def composed(overrides: Sequence[str], name: str = "config") -> DictConfig:
    return _composed(tuple(overrides), name)


@cache
def _composed(overrides: tuple[str, ...], name: str) -> DictConfig:
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        return compose(name, list(overrides))


def build(group: str, name: str, posed: Problem, seed: int = 0, extra: Sequence[str] = ()) -> Learner:
    """A part as the command line builds it, small."""
    needs(name)
    cfg = composed([f"{group}={name}", f"scale={posed.scale}", *SMALL.get(name, []), *extra])
    return instantiate(cfg[group])(posed, rng(seed))


def scattered(learner: Learner, seed: int = 1, spread: float = 0.3) -> Learner:
    """The part at random parameters, feasible."""
    source = rng(seed)
    with torch.no_grad():
        for parameter in filter(lambda p: p.requires_grad, learner.parameters()):
            parameter += spread * torch.randn(parameter.shape, generator=source).to(parameter)
    learner.project_()
    return learner


def a_kernel(posed: Problem) -> Tensor:
    middle = torch.tensor([sum(fkp_variances(posed.scale)) / 2], dtype=torch.float64)
    kernel = gaussian_kernel(middle, middle, 0 * middle, kernel_size=posed.kernel_size, scale=posed.scale)
    return kernel.to(posed.lr)


def outcome(learner: Learner, posed: Problem) -> Tensor:
    return learner() if isinstance(learner, KernelPrior) else learner(a_kernel(posed))


PARTS = [("prior", name) for name in yamls("prior")] + [("restorer", name) for name in yamls("restorer")]
every_part = pytest.mark.parametrize(("group", "name"), PARTS)
every_prior = pytest.mark.parametrize("name", yamls("prior"))
every_restorer = pytest.mark.parametrize("name", yamls("restorer"))


# --- values


@pytest.mark.parametrize("scale", [2, 4])
@every_prior
def test_a_prior_makes_a_kernel(name: str, scale: int) -> None:
    posed = problem(scale)
    for seed in range(3):
        prior = scattered(build("prior", name, posed), seed)
        assert isinstance(prior, KernelPrior)
        kernel = prior()
        assert kernel.shape == (1, 1, posed.kernel_size, posed.kernel_size)
        assert torch.isfinite(kernel).all()
        # The flow's logit keeps kernels above -1e-6 of its normalisation.
        assert kernel.min() >= (-1e-6 if name in SUMS else 0) or name == "deep_linear"
        low, high = SUMS.get(name, (1 - 1e-9, 1 + 1e-9))
        assert low <= kernel.sum() <= high
        assert prior.penalty(kernel).shape == () and torch.isfinite(prior.penalty(kernel))


@pytest.mark.parametrize(("scale", "side", "colours"), [(2, 24, 3), (3, 13, 1)])
@every_restorer
def test_a_restorer_makes_an_image(name: str, scale: int, side: int, colours: int) -> None:
    posed = problem(scale, side, colours=colours)
    restorer = scattered(build("restorer", name, posed))
    assert isinstance(restorer, Restorer)
    image = restorer(a_kernel(posed))
    assert image.shape == (1, colours, scale * side, scale * side)
    assert torch.isfinite(image).all()
    assert restorer.penalty(image).shape == () and torch.isfinite(restorer.penalty(image))


@every_part
def test_a_gradient_reaches_each_parameter(group: str, name: str) -> None:
    posed = problem(2)
    learner = scattered(build(group, name, posed))
    result = outcome(learner, posed)
    if not any(parameter.requires_grad for parameter in learner.parameters()):  # a frozen network, or none
        assert not result.requires_grad
        assert learner.optimizer is None
        return
    (result * normal(*result.shape, seed=3)).sum().backward()
    largest = max(parameter.grad.abs().max() for parameter in learner.parameters() if parameter.grad is not None)
    silent = NO_GRADIENT.get(name)
    for key, parameter in learner.named_parameters():
        if not parameter.requires_grad:
            continue  # a frozen flow's
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), key
        size = parameter.grad.abs().max() / largest
        if silent and silent.search(key):
            assert size < 1e-10, f"{key} has a gradient after all: take it off the list"
        else:
            assert size > 1e-8, f"no gradient reaches {key}"


@every_part
def test_what_has_a_gradient_moves_and_then_forgets_it(group: str, name: str) -> None:
    posed = problem(2)
    learner = scattered(build(group, name, posed))
    result = outcome(learner, posed)
    if not result.requires_grad:
        return
    before = result.detach().clone()
    (result * normal(*result.shape, seed=3)).sum().backward()
    learner.move()
    assert (outcome(learner, posed) - before).abs().max() > 1e-7
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in learner.parameters())


@every_part
def test_projection_is_idempotent(group: str, name: str) -> None:
    learner = build(group, name, problem(2))
    with torch.no_grad():
        for number, parameter in enumerate(learner.parameters()):
            parameter += normal(*parameter.shape, seed=number).to(parameter)
    learner.project_()
    once = [parameter.detach().clone() for parameter in learner.parameters()]
    learner.project_()
    for first, second in zip(once, learner.parameters(), strict=True):
        torch.testing.assert_close(first, second.detach(), rtol=1e-12, atol=1e-12)


def test_the_flows_latent_is_projected_onto_the_sphere() -> None:
    prior = scattered(build("prior", "fkp", problem(2)))
    assert prior.latent.norm().item() == pytest.approx(10, abs=1e-9)


# --- randomness and independence


@every_part
def test_the_generator_alone_fixes_the_start(group: str, name: str) -> None:
    posed = problem(2)
    starts = []
    for seed in (4, 4, 5):
        torch.manual_seed(len(starts))  # the global generator must not matter
        starts.append(outcome(build(group, name, posed, seed), posed).detach())
    assert torch.equal(starts[0], starts[1])
    assert torch.equal(starts[0], starts[2]) == (name in NOT_RANDOM)


def test_where_a_flow_starts() -> None:
    """At the mean kernel; or at a draw, of the generator or of a seed of its own."""
    posed = problem(2)
    mean = build("prior", "fkp", posed)().detach()
    assert kernel_psnr(mean, mean_kernel(posed)) > 65
    random = ["prior.initial=random"]
    draws = [build("prior", "fkp", posed, seed, random)().detach() for seed in (4, 4, 5)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    fixed = [build("prior", "fkp", posed, seed, [*random, "latent_seed=5"])().detach() for seed in (4, 5)]
    assert torch.equal(*fixed) and not torch.equal(fixed[0], draws[0])
    with pytest.raises(ValueError, match="mean or random"):
        build("prior", "fkp", posed, extra=["prior.initial=nonsense"])
    with pytest.raises(ValueError, match="centre"):
        build("prior", "fkp", replace(posed, centre="aligned"))


@every_part
def test_two_instances_share_nothing(group: str, name: str) -> None:
    posed = problem(2)
    storages = []
    for learner in (build(group, name, posed), build(group, name, posed)):
        tensors = [*learner.parameters(), *learner.buffers()]
        storages.append({t.untyped_storage().data_ptr() for t in tensors if t.numel()})
    assert not storages[0] & storages[1]
    # One more, for a diffusion's image is another one at each call.
    before = outcome(build(group, name, posed), posed).detach()
    first, second = build(group, name, posed), build(group, name, posed)
    scattered(first)
    assert torch.equal(outcome(second, posed), before)


DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@every_part
def test_device_and_dtype_are_the_problems(group: str, name: str, dtype: torch.dtype, device: str) -> None:
    posed = replace(problem(2), lr=problem(2).lr.to(device, dtype))
    learner = build(group, name, posed)
    result = outcome(learner, posed)
    tensors = [result, *learner.parameters(), *(buffer for buffer in learner.buffers() if buffer.is_floating_point())]
    assert {tensor.dtype for tensor in tensors} == {dtype}
    assert {tensor.device.type for tensor in tensors} == {device}


@every_part
def test_a_part_learns_with_what_it_owns(group: str, name: str) -> None:
    learner = build(group, name, problem(2))
    own = {id(parameter) for parameter in learner.parameters() if parameter.requires_grad}
    optimizers = [part.optimizer for part in learner.modules() if isinstance(part, Learner) and part.optimizer]
    held = [
        id(parameter) for optimizer in optimizers for entry in optimizer.param_groups for parameter in entry["params"]
    ]
    assert sorted(held) == sorted(own)


# --- listening


@every_prior
def test_only_dynamic_priors_listen(name: str) -> None:
    asked: list[int] = []

    def misfit(kernels: Tensor) -> Tensor:
        asked.append(len(kernels))
        return uniform(len(kernels))

    prior = build("prior", name, problem(2), extra=["prior.listen_every=5"] if name == "dkp" else [])
    before = prior().detach().clone()
    for _ in range(11):
        prior.advance(misfit)
    assert asked == ([5, 5, 5] if name == "dkp" else [])  # at calls 0, 5 and 10
    assert torch.equal(prior(), before) == (name != "dkp")


# --- composing, building, running


def _values(cfg: DictConfig) -> dict[str, object]:
    return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)


NEEDS_FOLDER = {"folder", "real"}


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (group, name)
        for group in ("data", "prior", "restorer", "solver", "nonblind", "start", "experiment", "seeds")
        for name in yamls(group)
    ],
)
def test_every_yaml_composes(group: str, name: str) -> None:
    extra = ["data.folder=somewhere"] if name in NEEDS_FOLDER else []
    values = _values(composed([f"{group}={name}", *extra]))
    assert {"data", "prior", "restorer", "solver", "scale", "seed", "weights", "device"} <= set(values)


@pytest.mark.parametrize("family", yamls("family"))
def test_every_family_trains_a_flow(family: str, tmp_path: Path) -> None:
    np.save(tmp_path / "kernel.npy", np.ones((6, 5)))
    extra = [f"family.folder={tmp_path}"] if family == "folder" else []
    drawn = instantiate_or_skip(composed([f"family={family}", "scale=4", *extra], "train_flow").family)
    size = kernel_size_of(drawn, 4)
    kernel = drawn(2, problem(4, kernel_size=size), rng())
    assert kernel.shape == (2, 1, size, size)
    torch.testing.assert_close(kernel.sum((1, 2, 3)), torch.ones(2).double())


def instantiate_or_skip(cfg: DictConfig) -> Any:
    """What a YAML describes; skips the test where that is a file or a package which this machine lacks."""
    try:
        return instantiate(cfg)
    except InstantiationException as error:
        if isinstance(error.__cause__, FileNotFoundError):
            pytest.skip(str(error.__cause__))
        raise


def test_every_group_has_a_test() -> None:
    groups = {path.name for path in Path(CONF).iterdir() if path.is_dir()}
    assert groups == {
        "adversary",
        "hydra",  # tests/test_launchers.py
        "protocol",  # tests/test_protocols.py
        "preset",  # tests/test_presets.py
        "schedule",  # there too
        "range",
        "data",
        "family",
        "prior",
        "restorer",
        "solver",
        "nonblind",
        "start",
        "experiment",
        "seeds",
    }


@pytest.mark.parametrize("name", ["matched", "released"])
def test_the_range_of_dkps_proposals_has_a_name(name: str) -> None:
    for words in (["prior=dkp"], ["experiment=dip_dkp"], ["experiment=diff_dkp"]):
        assert composed([*words, f"range={name}"]).prior.family.variances == name


@pytest.mark.parametrize("name", yamls("nonblind"))
def test_a_nonblind_restorer_is_the_restorer_of_that_name(name: str) -> None:
    inside, after = composed([f"restorer={name}"]).restorer, composed([f"nonblind={name}"]).nonblind
    assert "_target_" in after and OmegaConf.to_container(inside) == OmegaConf.to_container(after)


@pytest.mark.parametrize(
    "name", [name for name in yamls("start") if name not in ("explained", "bounded")]
)  # starts only
def test_a_start_is_the_prior_of_that_name(name: str) -> None:
    there, prior = composed([f"start={name}"]).start, composed([f"prior={name}"]).prior
    own = {key: value for key, value in there.items() if key not in ("weight", "settled")}  # how it deals with the loop
    assert own.items() <= dict(prior).items()


@pytest.mark.parametrize("name", yamls("prior"))
def test_every_prior_begins_at_a_given_kernel(name: str) -> None:
    posed = problem(2)
    prior = build("prior", name, posed)
    wanted = gaussian_kernel(*(torch.tensor([v]).double() for v in (1.5, 3.5, 0.6)), kernel_size=11, scale=2)
    if not [parameter for parameter in prior.parameters() if parameter.requires_grad]:
        with pytest.raises(ValueError, match="start=own"):
            prior.begin_at(wanted)
        return
    prior.begin_at(wanted)
    assert kernel_psnr(prior(), wanted) > 60 > kernel_psnr(build("prior", name, posed)(), wanted)
    assert not any(parameter.grad is not None and parameter.grad.any() for parameter in prior.parameters())


@pytest.mark.parametrize("name", yamls("data"))
def test_every_data_set_describes_a_scenario(name: str, tmp_path: Path) -> None:
    from PIL import Image

    from kernelsr.configure import scenario_of

    Image.new("RGB", (48, 48)).save(tmp_path / "a.png")
    # Any data set on a folder of our own: only where its images come from is left out.
    cfg = composed([f"data={name}", f"data.folder={tmp_path}", "scale=2"])
    instantiate_or_skip(cfg.data.family)
    scenario = scenario_of(cfg)
    posed, truth = next(iter(scenario)).load()
    assert posed.scale == 2 and (truth.hr is None) == (name == "real")
    assert (truth.kernel is None) == (name == "real" or name.endswith("realesrgan"))


def run(overrides: Sequence[str], steps: int = 2) -> tuple[Estimate, list[Progress]]:
    """A composed method on a tiny image."""
    seen: list[Progress] = []
    posed = problem(2, 24, dtype=torch.float32)
    estimate = solve(composed(["scale=2", f"solver.steps={steps}", *overrides]), posed, "a", seen.append)
    return estimate, seen


@pytest.mark.parametrize("name", yamls("experiment"))
def test_every_experiment_runs(name: str) -> None:
    small = ["prior.rehearsal=3"] if name == "dip_dkp" else SMALL.get(name, [])
    if composed([f"experiment={name}"]).restorer.get("_target_") == "kernelsr.restorers.Dip":
        small = [*SMALL["dip"], *small]
    estimate, seen = run([f"experiment={name}", *small])
    assert len(seen) == 2 and torch.isfinite(estimate.kernel).all()


def test_the_released_seeds_fix_noise_and_latent() -> None:
    posed = problem(2)
    for group, name in (("restorer", "dip"), ("prior", "fkp")):
        same = [build(group, name, posed, seed, ["seeds=released"]) for seed in (1, 2)]
        key = {"dip": "noise", "fkp": "latent"}[name]
        assert torch.equal(getattr(same[0], key), getattr(same[1], key))


@pytest.mark.parametrize("base", [name for name in yamls("prior") if name != "dkp"])
def test_any_prior_that_learns_can_be_made_dynamic(base: str) -> None:
    words = [f"prior@prior.base={base}", "prior.rehearsal=2", "restorer=bicubic", "solver=joint", "start=spectral"]
    if base in ("spectral", "amortised", "pool"):
        with pytest.raises(ValueError, match="choose another with prior@prior.base="):
            run(words)
        return
    estimate, _ = run(words)
    assert estimate.kernel.shape == (1, 1, 11, 11) and torch.isfinite(estimate.kernel).all()


@pytest.mark.parametrize("base", ["double_dip", "fkp", "inr"])
@pytest.mark.parametrize("family", [name for name in yamls("family") if name not in ("folder", "levin", "usrnet12")])
def test_dkp_takes_proposals_of_any_family(family: str, base: str) -> None:
    words = [f"family@prior.family={family}", f"prior@prior.base={base}", "prior.rehearsal=2", "restorer=bicubic"]
    estimate, _ = run([*words, "prior.listen_every=1"])
    assert torch.isfinite(estimate.kernel).all()


@pytest.mark.parametrize("name", yamls("solver"))
def test_solvers_are_found_by_their_name(name: str) -> None:
    assert instantiate(composed([f"solver={name}"]).solver).func is getattr(solvers, name)
