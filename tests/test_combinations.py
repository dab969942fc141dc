"""The full cross product: every prior with every restorer under every solver runs two steps, or refuses in a sentence.

A combination that nobody has run is one command, so none may crash: what cannot work says why and what to choose.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from cases import needs, photograph
from test_contracts import SMALL, composed, yamls

from kernelsr.configure import scenario_of, solve
from kernelsr.degradation import degrade
from kernelsr.families import mean_kernel
from kernelsr.problem import Estimate, Problem, Progress

METHODS = list(product(yamls("prior"), [*yamls("restorer"), "none"], yamls("solver")))
# What a sentence must have: the choice that does not fit, and one that does.
REFUSAL = re.compile(r"(solver|restorer|prior|scale)=\w+.*; .*(choose|set|use|train)", re.DOTALL)


def posed(scale: int = 2) -> Problem:
    """The middle of a photograph, degraded by the mean kernel."""
    hr = photograph(24 * scale, torch.float32)
    blank = Problem(torch.zeros(1, 3, 24, 24), scale)
    return replace(blank, lr=degrade(hr, mean_kernel(blank).float(), scale).clamp(0, 1))


def run(words: Sequence[str], problem: Problem) -> tuple[Estimate, list[Progress]]:
    seen: list[Progress] = []
    cfg = composed([f"scale={problem.scale}", "solver.steps=2", *words])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of small crops
        return solve(cfg, problem, "a", seen.append), seen


@pytest.mark.parametrize(("prior", "restorer", "solver"), METHODS)
def test_every_combination_runs_or_says_why_not(prior: str, restorer: str, solver: str) -> None:
    small = [word for name in (prior, restorer, solver) for word in SMALL.get(name, [])]
    needs(restorer)
    problem = posed()
    try:
        estimate, seen = run([f"prior={prior}", f"restorer={restorer}", f"solver={solver}", *small], problem)
    except ValueError as error:
        assert REFUSAL.search(str(error)), f"this says too little: {error}"
        return
    size = problem.kernel_size
    assert 1 <= len(seen) <= 2
    assert estimate.kernel.shape == (1, 1, size, size) and torch.isfinite(estimate.kernel).all()
    assert (estimate.image is None) == (restorer == "none")
    if estimate.image is not None:
        assert estimate.image.shape[2:] == problem.hr_size and torch.isfinite(estimate.image).all()


def test_most_combinations_run() -> None:
    """A refusal is the exception, so that the test above cannot pass by refusing everything."""
    for prior in ("softmax", "gaussian", "double_dip", "fkp", "dkp", "inr"):
        for restorer in ("dip", "usrnet", "wiener", "bicubic", "zssr", "diffusion"):
            for solver in ("joint", "alternating"):
                small = [word for name in (prior, restorer, solver) for word in SMALL.get(name, [])]
                assert run([f"prior={prior}", f"restorer={restorer}", f"solver={solver}", *small], posed())[1]
        assert run([f"prior={prior}", "solver=adversarial", "restorer=none", *SMALL.get(prior, [])], posed())[1]


@pytest.mark.parametrize(("experiment", "prior"), list(product(yamls("experiment"), yamls("prior"))))
def test_every_experiment_takes_every_prior_or_says_why_not(experiment: str, prior: str) -> None:
    """The paper's schedule around another prior, which comes with its own settings."""
    solver_and_restorer = [word for word in SMALL.get(experiment, []) if not word.startswith("prior.")]
    with_dip = composed([f"experiment={experiment}"]).restorer.get("_target_") == "kernelsr.restorers.Dip"
    small = [*solver_and_restorer, *SMALL.get(prior, []), *(SMALL["dip"] if with_dip else [])]
    words = [f"experiment={experiment}", f"prior={prior}", *small]
    assert composed(words).prior == composed([f"prior={prior}", *SMALL.get(prior, []), *_seeds(experiment)]).prior
    try:
        estimate, _ = run(words, posed())
    except ValueError as error:
        assert REFUSAL.search(str(error)), f"this says too little: {error}"
        assert prior in ("spectral", "amortised", "pool", "deep_linear")
        return
    assert torch.isfinite(estimate.kernel).all()


def _seeds(experiment: str) -> list[str]:
    """The choice of seeds that an experiment makes, which a prior reads."""
    latent = composed([f"experiment={experiment}"]).latent_seed
    return [] if latent is None else ["seeds=latent"]


@pytest.mark.parametrize("name", yamls("data"))
def test_every_data_set_goes_through_a_method(name: str, tmp_path: Path) -> None:
    from PIL import Image

    with Image.open(Path(__file__).parents[1] / "kernelsr" / "photos" / "coffee.png") as photo:
        photo.crop((0, 0, 96, 96)).save(tmp_path / "a.png")
    words = [f"data={name}", f"data.folder={tmp_path}", "prior=gaussian", "restorer=wiener", "nonblind=usrnet"]
    try:
        problem, _ = next(iter(scenario_of(composed(["scale=2", *words])))).load()
    except FileNotFoundError as error:
        pytest.skip(str(error))  # a pool of kernels that is not on this machine
    estimate, _ = run(words, problem)
    assert estimate.nonblind is not None and estimate.nonblind.shape[2:] == problem.hr_size
