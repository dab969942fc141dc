"""From a configuration to parts: the only place that knows Hydra's instantiate, for the command line and for Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig

from kernelsr.data import Scenario, generator
from kernelsr.images import ImageSource, read_image
from kernelsr.official import find_image_set
from kernelsr.paths import CONF
from kernelsr.problem import Estimate, Problem, Progress


def device_of(name: str) -> torch.device:
    """``auto`` takes CUDA where there is one; ``cuda`` without one is an error and no silent CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("device is cuda, but PyTorch finds no CUDA device; use device=auto or device=cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device is {name!r}; choose auto, cpu or cuda") from error


def scenario_of(cfg: DictConfig) -> Scenario:
    """The images, kernels and noise that the data group describes."""
    settings = dict(cfg.data)
    images, folder = settings.pop("images"), settings.pop("folder")
    if images is None and folder is None:
        raise ValueError("no images are chosen; give a folder or a file of yours: data.folder=my_photos/")
    settings["family"] = instantiate(settings["family"])
    only = settings.pop("only")
    names = [only] if isinstance(only, str) else only and list(only)
    return Scenario(folder or find_image_set(images), scale=cfg.scale, only=names, **settings)


def solve(cfg: DictConfig, problem: Problem, name: str, on_step: Callable[[Progress], None]) -> Estimate:
    """Build prior, restorer and solver for one problem, and run them; raises ValueError where the loss diverged."""
    rng = generator(cfg.seed, name)
    problem = replace(problem, lr=problem.lr.to(device_of(cfg.device)))
    prior = instantiate(cfg.prior)(problem, rng)
    restorer = instantiate(cfg.restorer)(problem, rng)
    estimate = instantiate(cfg.solver)(problem, prior, restorer, on_step=on_step)
    estimate = replace(estimate, image=estimate.image.cpu(), kernel=estimate.kernel.cpu())
    if not (torch.isfinite(estimate.kernel).all() and torch.isfinite(estimate.image).all()):
        raise ValueError("the optimisation diverged: kernel or image is not finite; lower prior.lr or restorer.lr")
    return estimate


def estimate(
    image: ImageSource,
    scale: int = 4,
    prior: str = "dkp",
    restorer: str = "dip",
    *,
    experiment: str | None = None,
    steps: int | None = None,
    kernel_size: int = 0,
    centre: str = "fkp",
    weights: str = "bundled",
    seed: int = 0,
    device: str = "auto",
    overrides: Sequence[str] = (),
    on_step: Callable[[Progress], None] = lambda progress: None,
) -> Estimate:
    """The blur kernel of one low-resolution image, and the image before it: the command line's main job, from Python.

    Args:
        image: y: a path, a NumPy array or PIL image, or a tensor (1, C, h, w) in [0, 1].
        scale: s.
        prior, restorer, experiment: the configuration's names, as on the command line.
        steps: of the solver; the configuration's where it is None (a reduced budget, or the experiment's full schedule).
        kernel_size, centre: K (0: FKP's rule) and the convention of the kernel's centre.
        overrides: any further settings, as on the command line: ``["prior.lr=0.1"]``.
        on_step: called after each step with a ``Progress``.

    Returns:
        image (1, C, sh, sw) and kernel (1, 1, K, K), on the CPU.

    Raises:
        ValueError: the image or a setting cannot be used; it says why and what to do.
    """
    problem = Problem(read_image(image), scale, kernel_size, centre)
    given: dict[str, Any] = {"experiment": experiment, "solver.steps": steps}
    words = [f"scale={scale}", f"seed={seed}", f"device={device}", f'weights="{weights}"']
    words += [f"prior={prior}", f"restorer={restorer}"] if experiment is None else []
    words += [f"{key}={value}" for key, value in given.items() if value is not None]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", [*words, *overrides])
    return solve(cfg, problem, "image", on_step)
