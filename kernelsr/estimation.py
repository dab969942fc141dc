"""The main job from Python: one low-resolution image's blur kernel, and the image before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kernelsr.composition import compose_config, refuse_two_schedules
from kernelsr.configure import solve
from kernelsr.images import ImageSource, read_image
from kernelsr.noise import heard
from kernelsr.precision import multiplying
from kernelsr.problem import Estimate, Problem, Progress


def estimate(
    image: ImageSource,
    scale: int = 4,
    prior: str | None = None,
    restorer: str | None = None,
    *,
    nonblind: str | None = None,
    start: str | None = None,
    experiment: str | None = None,
    preset: str | None = None,
    steps: int | None = None,
    kernel_size: int = 0,
    centre: str = "fkp",
    noise_std: float | None = None,
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
        prior, restorer, nonblind, start, experiment, preset: the configuration's names, as on the command line; its defaults
            where they are None.
        steps: of the solver; the configuration's where it is None (a reduced budget, or the experiment's full schedule).
        kernel_size, centre: K (0: FKP's rule) and the convention of the kernel's centre.
        noise_std: of y's noise, on the [0, 1] scale; None takes what is heard in y (kernelsr/noise.py).
        overrides: further settings of prior, restorer and solver, as on the command line: ``["prior.lr=0.1"]``.
        on_step: called after each step with a ``Progress``.

    Returns:
        image (1, C, sh, sw) and kernel (1, 1, K, K), on the CPU; with ``nonblind``, its image too. ``image`` is None where
        only the kernel is sought, as with ``preset="fast"``, whose image is ``nonblind``.

    Raises:
        ValueError: the image or a setting cannot be used; it says why and what to do.
    """
    lr = read_image(image)
    problem = Problem(lr, scale, kernel_size, centre, heard(lr) if noise_std is None else noise_std)
    choices: dict[str, str | int | None] = {
        "prior": prior,
        "restorer": restorer,
        "nonblind": nonblind,
        "start": start,
        "experiment": experiment,
        "preset": preset,
    }
    choices["solver.steps"] = steps
    words = [f"{key}={value}" for key, value in choices.items() if value is not None]
    words += [f"scale={problem.scale}", f"seed={seed}", f"device={device}", f'weights="{weights}"']
    for word in overrides:
        if word.startswith(("scale=", "data")):
            raise ValueError(
                f"{word} describes the image, not the estimate; use the arguments scale, kernel_size, centre, noise_std"
            )
    chosen = dict(word.split("=", 1) for word in [*words, *overrides] if "=" in word)
    refuse_two_schedules(chosen.get("preset"), chosen.get("experiment"))
    cfg = compose_config([*words, *overrides])
    with multiplying(tf32=cfg.tf32):
        return solve(cfg, problem, "image", on_step)
