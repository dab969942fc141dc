"""Train our USRNet on photographs: `python -m experiments.train_usrnet photos=PATH`.

First the denoiser alone, on white noise, a sixth of the price a step; then all iterations end to end. A training that was
killed resumes from its checkpoint and ends with the same numbers, because each step draws from a generator of its own.
"""

from __future__ import annotations

import copy
import csv
import math
import time
from dataclasses import replace
from pathlib import Path

import hydra
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from experiments.patches import Patches
from experiments.training import commit, descend, follow, trapezium
from kernelsr import metrics, unrolled
from kernelsr.data import Scenario
from kernelsr.degradation import degrade
from kernelsr.learner import initialised_from
from kernelsr.official import find_image_set
from kernelsr.problem import Problem
from kernelsr.restorers import Usrnet
from kernelsr.seeds import seed_for

STAGES = ("denoising", "restoring")
PLACES = ("photos", "out", "results")  # where things lay on the machine that trained is nobody's business


def denoising_loss(network: unrolled.UnrolledNetwork, cfg: DictConfig, clean: Tensor, rng: torch.Generator) -> Tensor:
    """Mean absolute error of the denoiser on white noise of levels that it is told."""
    level = cfg.loudest / 255 * torch.rand(len(clean), 1, 1, 1, generator=rng)
    noisy = clean + level * torch.randn(clean.shape, generator=rng)
    device = next(network.parameters()).device
    restored = network.denoiser(noisy.to(device, memory_format=torch.channels_last), level.to(device))
    return (restored.float() - clean.to(device)).abs().mean()


def restoring_loss(network: unrolled.UnrolledNetwork, cfg: DictConfig, clean: Tensor, rng: torch.Generator) -> Tensor:
    """Mean absolute error of restored patches; one scale, family and centre a batch, a kernel and noise level a patch."""
    scale = cfg.scales[int(torch.randint(len(cfg.scales), (), generator=rng))]
    centre = cfg.centres[int(torch.randint(len(cfg.centres), (), generator=rng))]
    chances = torch.tensor([part.weight for part in cfg.families], dtype=torch.float64)
    family = instantiate(cfg.families[int(torch.multinomial(chances, 1, generator=rng))].family)
    kernel = family(len(clean), Problem(clean[:1, :, ::scale, ::scale], scale, centre=centre), rng)
    level = cfg.loudest / 255 * torch.rand(len(clean), 1, 1, 1, generator=rng)
    if torch.rand((), generator=rng) < cfg.noiseless:
        level = torch.zeros_like(level)
    # A patch that is blurred around its own border is a small image of the circular model.
    lr = degrade(clean, kernel, scale)
    lr = lr + level * torch.randn(lr.shape, generator=rng)
    lr = (lr.clamp(0, 1) * 255).round() / 255
    device = next(network.parameters()).device
    restored = network(lr.to(device), kernel.to(device), scale, level.to(device))
    return (restored - clean.to(device)).abs().mean()


LOSSES = {"denoising": denoising_loss, "restoring": restoring_loss}


def recipe(cfg: DictConfig) -> dict:
    """The settings that decide the numbers, without those that may change on the way."""
    free = (*PLACES, "device", "round", "validation", "validate_every")
    settings = {str(key): value for key, value in cfg.items() if key not in free}
    for stage in STAGES:
        settings[stage] = {str(key): value for key, value in cfg[stage].items() if key not in ("steps", "lr")}
    return OmegaConf.to_container(OmegaConf.create(settings), resolve=True)  # type: ignore[return-value]


def begin_schedule(network: unrolled.UnrolledNetwork, scales: list[int], steps: int = 2000) -> None:
    """Alphas and betas of half-quadratic splitting for a start: betas fall evenly in logarithm from 60/255 to 2.5/255.

    Alpha is 0.23 (noise level / beta)^2, as in DPIR, Zhang et al. (2021); noise below 1/255 counts as that, for the 8 bits.
    """
    noise_std = torch.linspace(0, 10 / 255, 21).view(-1, 1, 1, 1)
    betas = torch.logspace(math.log10(60 / 255), math.log10(2.5 / 255), network.iterations).view(1, -1, 1, 1)
    alphas = 0.23 * (noise_std.square() + 1 / 255**2) / betas.square()
    with torch.no_grad():
        next(network.schedule.parameters())[:, 0] *= 50  # noise levels are small numbers
    fit = torch.optim.Adam(network.schedule.parameters(), 1e-2)
    for _ in range(steps):
        loss = torch.zeros(())
        for scale in scales:
            own_alphas, own_betas = network.weights(noise_std, scale)
            loss = loss + (own_alphas / alphas).log().square().mean() + (own_betas / betas).log().square().mean()
        fit.zero_grad()
        loss.backward()
        fit.step()


@torch.no_grad()
def validate(network: unrolled.UnrolledNetwork, images: str | None, scales: list[int]) -> list[float]:
    """Mean PSNR on a set at each scale with the true kernels of the FKP protocol, or nothing where no set is named."""
    found: list[float] = []
    if images is None:
        return found
    device = next(network.parameters()).device
    for scale in scales:
        values = []
        for case in Scenario(find_image_set(images), scale):
            problem, truth = case.load()
            assert truth.hr is not None and truth.kernel is not None
            problem = replace(problem, lr=problem.lr.to(device))
            image = Usrnet(problem, torch.Generator(), network=lambda: network)(truth.kernel.to(problem.lr))
            values.append(metrics.psnr(image.cpu(), truth.hr, border=scale))
        found.append(sum(values) / len(values))
    return found


class Training:
    """A network, its running average and Adam, somewhere in one of the stages; it can be written down and taken up again."""

    def __init__(self, cfg: DictConfig, checkpoint: Path, device: str):
        self.cfg, self.checkpoint = cfg, checkpoint
        with initialised_from(torch.Generator().manual_seed(cfg.seed)):
            network = unrolled.UnrolledNetwork(**unrolled.SIZES[cfg.size])
        if not checkpoint.exists():
            begin_schedule(network, list(cfg.restoring.scales))
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean = copy.deepcopy(self.network)
        # Only the denoiser in bfloat16, and only while it learns.
        halved = torch.autocast(torch.device(device).type, torch.bfloat16, enabled=cfg.bfloat16)
        self.network.denoiser.forward = halved(self.network.denoiser.forward)  # type: ignore[method-assign]
        self.stage, self.step, self.seconds, self.curve = STAGES[0], 0, 0.0, []
        self.optimizer = self._adam()
        if checkpoint.exists():
            state = torch.load(checkpoint, map_location=device, weights_only=True)
            own, other = recipe(cfg), state.get("recipe", recipe(cfg))  # older checkpoints tell none
            differ = [key for key in own if own[key] != other.get(key)]
            if differ:
                raise ValueError(
                    f"{checkpoint} is of a training with another {' and '.join(differ)}; remove it, set out=, or go back to "
                    "its settings"
                )
            for name in ("network", "mean", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
            self.stage, self.step = state["stage"], state["step"]
            self.seconds, self.curve = state["seconds"], state["curve"]

    def _adam(self) -> torch.optim.Adam:
        return torch.optim.Adam(self.network.parameters(), fused=True)

    def save(self) -> None:
        """To another name first: a training killed here keeps its former checkpoint."""
        state = {name: getattr(self, name).state_dict() for name in ("network", "mean", "optimizer")}
        rest = {name: getattr(self, name) for name in ("stage", "step", "seconds", "curve")}
        partial = self.checkpoint.with_suffix(".partial")
        torch.save({**state, **rest, "recipe": recipe(self.cfg)}, partial)
        partial.replace(self.checkpoint)

    def run(self, patches: Patches) -> None:
        """To the end of the last stage."""
        for stage in STAGES[STAGES.index(self.stage) :]:
            if stage != self.stage:  # a stage begins with the average of the one before, and with no momentum
                self.network.load_state_dict(self.mean.state_dict())
                self.stage, self.step, self.optimizer = stage, 0, self._adam()
            cfg = self.cfg[stage]
            rounds = range(self.step, cfg.steps, self.cfg.round)
            for first in tqdm(rounds, desc=f"{stage}, rounds", mininterval=60):
                self._round(cfg, patches, first, min(first + self.cfg.round, cfg.steps))

    def _round(self, cfg: DictConfig, patches: Patches, first: int, last: int) -> None:
        began = time.monotonic()
        total = sum(self._step(cfg, patches, step) for step in range(first, last))
        self.step = last
        self.seconds += time.monotonic() - began
        row = [self.stage, last, float(total) / (last - first), self.seconds]
        if last == cfg.steps or last // self.cfg.round % self.cfg.validate_every == 0:
            row += validate(self.mean, self.cfg.validation, list(self.cfg.restoring.scales))
        self.curve.append(row)
        tqdm.write(" ".join(str(round(v, 5) if isinstance(v, float) else v) for v in row))
        self.save()

    def _step(self, cfg: DictConfig, patches: Patches, step: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed_for(self.cfg.seed, self.stage, str(step)))
        clean = patches.draw(cfg.batch, cfg.side, rng)
        loss = LOSSES[self.stage](self.network, cfg, clean, rng)
        loss.backward()
        descend(self.optimizer, trapezium(step, cfg.steps, cfg.lr))
        follow(self.mean, self.network, step, self.cfg.ema)
        return loss.detach()


@hydra.main(version_base="1.3", config_path="../conf", config_name="train_usrnet")
def main(cfg: DictConfig) -> None:
    if cfg.photos is None:
        raise SystemExit("photos names the folder of photographs to train on: photos=PATH; none are bundled")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device
    out, name, tree = Path(cfg.out), f"usrnet_{cfg.size}", commit()
    out.mkdir(parents=True, exist_ok=True)
    patches = Patches(cfg.photos)
    training = Training(cfg, out / f"{name}.checkpoint", device)
    training.run(patches)
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    unrolled.save(
        training.mean.cpu(),
        out / f"{name}.safetensors",
        photographs=len(patches.names),
        licence="Apache-2.0",
        training={key: value for key, value in settings.items() if key not in PLACES},
        seed=cfg.seed,
        commit=tree,
        torch=torch.__version__,
    )
    results = Path(cfg.results)
    results.mkdir(parents=True, exist_ok=True)
    with open(results / f"train_{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        scores = [f"{cfg.validation}_x{scale}" for scale in cfg.restoring.scales] if cfg.validation else []
        writer.writerow(["stage", "step", "loss", "seconds", *scores])
        writer.writerows(training.curve)
    training.checkpoint.unlink()
    print(f"{name}: {training.seconds:.0f} s; {training.curve[-1]}")


if __name__ == "__main__":
    main()
