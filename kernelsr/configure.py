"""From a configuration to parts: the only place that knows Hydra's instantiate, for the command line and for Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import Tensor

from kernelsr import solvers
from kernelsr.composition import compose_config
from kernelsr.crops import informative_crop
from kernelsr.data import Scenario
from kernelsr.families import mean_kernel
from kernelsr.learner import BUILDING, KernelPrior, Restorer
from kernelsr.metrics import BASELINE, BOUND, FLOORS, Scoring
from kernelsr.ncnn_models import available
from kernelsr.official import find_image_set
from kernelsr.problem import Estimate, Problem, Progress
from kernelsr.restorers.realesrgan import CARRIER, RealEsrgan
from kernelsr.seeds import generator, seed_for
from kernelsr.threads import on_threads, threads_of


def device_of(name: str) -> torch.device:
    """``auto`` takes CUDA where there is one; ``cuda`` without one is an error and no silent CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"device is {name!r}; choose auto, cpu or cuda") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {name}, but PyTorch finds no such CUDA device; use device=auto or device=cpu")
    return device


def scenario_of(cfg: DictConfig) -> Scenario:
    """The images, kernels and noise that the data group describes."""
    settings = dict(cfg.data)
    images, folder, only = (settings.pop(key) for key in ("images", "folder", "only"))
    if images is None and folder is None:
        raise ValueError("no images are chosen; give a folder or a file of yours: data.folder=my_photos/")
    if only is not None:
        # The command line reads 3096 as a number; here it is an image's name.
        only = [str(name) for name in (only if isinstance(only, ListConfig) else [only])]
    for name in ("family", "degradation"):
        settings[name] = _built(f"data.{name}", settings[name])
    place = find_image_set(str(images)) if folder is None else str(folder)
    with _settings_named("data"):
        scenario = Scenario(place, scale=cfg.scale, only=only, **settings)
    if not len(scenario):
        raise ValueError("data.only names no image; leave it out to take all")
    return scenario


def scoring_of(cfg: DictConfig) -> Scoring:
    """How images and kernels are scored, as the protocol says."""
    with _settings_named("scoring"):
        return Scoring(**cfg.scoring)


def solve(
    cfg: DictConfig,
    problem: Problem,
    name: str,
    on_step: Callable[[Progress], None],
    on_built: Callable[[KernelPrior, Restorer | None], None] = lambda prior, restorer: None,
) -> Estimate:
    """Build the parts for one problem and run them: solver, then non-blind restorer; ValueError where the loss diverged.

    With ``crop=`` prior, restorer and solver see the most informative window only, so that the estimate has a kernel, and the
    non-blind restorer's image, but no image of its own. A prior that is settled where it starts is not moved: the solver then
    is ``direct``.

    ``on_built`` is shown the parts of the loop once they are there.
    """
    rng = generator(cfg.seed, name)
    whole = replace(problem, lr=problem.lr.to(device_of(cfg.device)))
    problem = whole if cfg.crop is None else informative_crop(whole, cfg.crop)
    if cropped := problem is not whole:
        on_step = partial(_show_kernel, on_step)
    prior = part(cfg, "prior", problem, rng)
    assert isinstance(prior, KernelPrior)
    # A start is quick, and sees the whole image.
    if isinstance(start := part(cfg, "start", whole, generator(cfg.seed, name, "start")), KernelPrior):
        prior.follow(start)
    restorer = part(cfg, "restorer", problem, rng)
    on_built(prior, restorer)
    # Here and not when its turn comes, so that one that cannot be built fails before the solver's minutes. It has a generator
    # of its own, so that the estimate does not depend on what follows it.
    nonblind = part(cfg, "nonblind", whole, generator(cfg.seed, name, "nonblind"))
    # A solver that draws does so by the image's name, unless a seed of its own is set.
    own = {"seed": seed_for(cfg.seed, name, "solver")} if cfg.solver.get("seed", 0) is None else {}
    with _settings_named("solver"):
        solver = _built("solver", cfg.solver)
        if prior.settled:
            estimate = solvers.direct(problem, prior, restorer if nonblind is None else None, on_step=on_step)
        else:
            with on_threads(threads_of(cfg.threads)):
                estimate = solver(problem, prior, restorer, on_step=on_step, **own)
    if not _finite(estimate.kernel, estimate.image):
        raise ValueError("the optimisation diverged: kernel or image is not finite; lower the priors' or restorer's lr")
    afterwards = None if nonblind is None else solvers.nonblind(whole, estimate.kernel, nonblind)
    if not _finite(afterwards):
        raise ValueError("the non-blind image is not finite; choose another nonblind=")
    image, afterwards = (None if x is None else x.cpu() for x in (None if cropped else estimate.image, afterwards))
    return Estimate(image, estimate.kernel.cpu(), afterwards, estimate.doubt)


def _show_kernel(on_step: Callable[[Progress], None], progress: Progress) -> None:
    """The image of a crop is none of the whole."""
    on_step(replace(progress, image=None))


def restore(cfg: DictConfig, problem: Problem, kernel: Tensor, name: str) -> Tensor | None:
    """The image that the chosen non-blind restorer makes with a kernel; None where none is chosen."""
    problem = replace(problem, lr=problem.lr.to(device_of(cfg.device)))
    restorer = part(cfg, "nonblind", problem, generator(cfg.seed, name, "nonblind"))
    return None if restorer is None else solvers.nonblind(problem, kernel, restorer)


def reference_images(
    cfg: DictConfig, problem: Problem, kernel: Tensor | None, name: str
) -> Iterator[tuple[str, Tensor, str]]:
    """Images to hold an estimate against: (method, image, suffix of its columns).

    The non-blind restorer with the mean kernel and, the upper bound, with ``kernel``, the one that made y. Where none
    is chosen, our USRNet, or Wiener at scales that it was not trained for. At x4 the feed-forward Real-ESRGAN too, where the
    extra ``baselines`` is installed.
    """
    chosen = "_target_" in cfg.nonblind
    reference, usual = cfg.copy(), "usrnet" if problem.scale in (2, 3, 4) else "wiener"
    if not chosen:
        OmegaConf.update(reference, "nonblind", compose_config([f"nonblind={usual}"]).nonblind, force_add=True)
    restorer = reference.nonblind._target_.rpartition(".")[2].lower()
    for label, used in ((FLOORS[0], mean_kernel(problem) if chosen else None), (BOUND, kernel)):
        image = None if used is None else restore(reference, problem, used, name)
        if image is not None:
            yield f"{label} + {restorer}", image, "_nonblind" if chosen else ""
    if problem.scale == 4 and available(CARRIER):
        yield BASELINE, RealEsrgan(problem, torch.Generator())(mean_kernel(problem)), ""


def part(cfg: DictConfig, group: str, problem: Problem, rng: torch.Generator) -> Any:
    """The part that a group describes, made for a problem; None where the group chooses none."""
    if "_target_" not in cfg[group]:
        return None
    with BUILDING, _settings_named(group):
        return _built(group, cfg[group])(problem, rng)


def _finite(*tensors: Tensor | None) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors if tensor is not None)


def _built(group: str, cfg: DictConfig) -> Any:
    """What a group's YAML describes."""
    try:
        return instantiate(cfg)
    except InstantiationException as error:
        raise SettingsError(f"{group} cannot be built: {error}{_hint(group, error)}") from error


@contextmanager
def _settings_named(group: str) -> Iterator[None]:
    """Says of which group a setting is that does not exist there or has the wrong type."""
    try:
        yield
    except TypeError as error:
        raise SettingsError(
            f"a setting of {group} does not fit: {error}; see conf/{group}/ for what it takes{_hint(group, error)}"
        ) from error


def _hint(group: str, error: Exception) -> str:
    """What to write, where a part's name stands for the part, or ``range=`` is for a prior or a family without variances."""
    if "'str' object is not callable" in str(error):
        return "; a part inside a part is chosen with its group, as in prior@prior.base=inr"
    misplaced = group == "prior" and any(f"keyword argument '{name}'" in str(error) for name in ("family", "variances"))
    gaussian = "; range= is for prior=dkp with Gaussian proposals (family aniso or iso)"
    return f"{gaussian}; under preset=faithful prior=full/dkp takes any" if misplaced else ""


class SettingsError(ValueError):
    """A setting that is wrong for every image, so that no image need be tried."""
