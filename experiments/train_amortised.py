"""Train the network of prior=amortised: `python -m experiments.train_amortised photos=PATH`.

A training that was killed resumes from its checkpoint and ends with the same numbers, because each step draws from a
generator of its own.
"""

from __future__ import annotations

import copy
import csv
import math
import subprocess
import time
from dataclasses import astuple
from pathlib import Path

import hydra
import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from experiments.beliefs import surprise
from experiments.lr_patches import LrPatches, photographs
from experiments.train_fusion import train_fusion
from kernelsr import amortised, stored
from kernelsr.beliefs import shape_of
from kernelsr.data import seed_for
from kernelsr.files import write_table
from kernelsr.learner import initialised_from

WEIGHTS = (1.0, 1.0, 0.1)
QUIETEST = 1e-4  # what black is rounded to adds nothing
PLACES = ("photos", "out", "results")  # where things lay on the machine that trained is nobody's business


def losses(
    network: amortised.PosteriorNetwork, patches: Tensor, scales: Tensor, shape: Tensor, noise: Tensor
) -> Tensor:
    """Surprise by the true shapes, distance of the means to them, and squared error of the log of the noise.

    The distance pulls where the density is still too wide to.
    """
    evidence = network(patches, scales)
    belief = amortised.combined(amortised.known(scales), evidence)
    distance = F.smooth_l1_loss(belief.mean, shape, beta=0.1)
    missed = (evidence.noise - noise.clamp(min=QUIETEST).log()).square().mean()
    return torch.stack([surprise(belief, shape).mean(), distance, missed])


@torch.no_grad()
def validate(network: amortised.PosteriorNetwork, held: LrPatches, cfg: DictConfig, device: str) -> list[float]:
    """On patches of photographs that are held out: surprise, median error of the shape's three numbers at each scale."""
    network.eval()
    found = []
    for scale in cfg.patches:
        rng = torch.Generator().manual_seed(seed_for(cfg.seed, "validation", str(scale)))
        drawn = held.draw(96, cfg.side, scale, rng, cfg)
        scales = torch.full((96,), scale, device=device)
        belief = amortised.combined(amortised.known(scales), network(drawn.patches.to(device), scales))
        shape = shape_of(drawn.covariance.to(device))
        found += [surprise(belief, shape).mean().item(), (belief.mean - shape).norm(dim=1).median().item()]
    network.train()
    return found


class Training:
    """A network, its running average and Adam; it can be written down and taken up again."""

    def __init__(self, cfg: DictConfig, checkpoint: Path, device: str):
        self.cfg, self.checkpoint, self.device = cfg, checkpoint, device
        with initialised_from(torch.Generator().manual_seed(cfg.seed)):
            network = amortised.PosteriorNetwork(tuple(cfg.widths), cfg.features, tuple(cfg.patches))
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean = copy.deepcopy(self.network)
        self.optimizer = torch.optim.Adam(self.network.parameters(), fused=True)
        self.step, self.seconds, self.curve = 0, 0.0, []
        if checkpoint.exists():
            state = torch.load(checkpoint, map_location=device, weights_only=True)
            for name in ("network", "mean", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
            self.step, self.seconds, self.curve = state["step"], state["seconds"], state["curve"]

    def save(self) -> None:
        """To another name first: a training killed here keeps its former checkpoint."""
        state = {name: getattr(self, name).state_dict() for name in ("network", "mean", "optimizer")}
        rest = {name: getattr(self, name) for name in ("step", "seconds", "curve")}
        partial = self.checkpoint.with_suffix(".partial")
        torch.save({**state, **rest}, partial)
        partial.replace(self.checkpoint)

    def run(self, seen: LrPatches, held: LrPatches) -> None:
        """To the last step."""
        for first in tqdm(range(self.step, self.cfg.steps, self.cfg.round), desc="amortised, rounds", mininterval=60):
            began = time.monotonic()
            last = min(first + self.cfg.round, self.cfg.steps)
            total = sum(self._step(seen, step) for step in range(first, last))
            self.step = last
            self.seconds += time.monotonic() - began
            row = [
                last,
                *(total / (last - first)).tolist(),
                *validate(self.mean, held, self.cfg, self.device),
                self.seconds,
            ]
            self.curve.append(row)
            tqdm.write(" ".join(str(round(v, 4)) for v in row))
            self.save()

    def _step(self, seen: LrPatches, step: int) -> Tensor:
        cfg = self.cfg
        rng = torch.Generator().manual_seed(seed_for(cfg.seed, "training", str(step)))
        # Every scale is in every batch, or batch norm would learn each by itself and judge by their mixture.
        hard = min(1.0, step / (cfg.ramp * cfg.steps))
        drawn = [seen.draw(n, cfg.side, scale, rng, cfg, hard) for scale, n in cfg.patches.items()]
        patches, covariance, noise, *_ = (
            torch.cat(parts).to(self.device) for parts in zip(*map(astuple, drawn), strict=True)
        )
        scales = torch.tensor([scale for scale, n in cfg.patches.items() for _ in range(n)], device=self.device)
        shape = shape_of(covariance)
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=cfg.bfloat16):
            parts = losses(self.network, patches, scales, shape, noise)
        (parts * parts.new_tensor(WEIGHTS)).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate(step, cfg.steps, cfg.lr)
        self.optimizer.step()
        self.optimizer.zero_grad()
        keep = min(cfg.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, average in self.mean.state_dict().items():
                now = self.network.state_dict()[name]
                average.lerp_(now, 1 - keep) if average.is_floating_point() else average.copy_(now)
        return parts.detach()


def rate(step: int, steps: int, peak: float) -> float:
    """Adam's step: rises over 200 steps, and falls to zero along a cosine."""
    return peak * min(1.0, (step + 1) / 200) * (1 + math.cos(math.pi * step / steps)) / 2


@hydra.main(version_base="1.3", config_path="../conf", config_name="train_amortised")
def main(cfg: DictConfig) -> None:
    if cfg.photos is None:
        raise SystemExit("photos names the folder of photographs to train on: photos=PATH; none are bundled")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device
    out, name = Path(cfg.out), "amortised_gaussian"
    out.mkdir(parents=True, exist_ok=True)
    # Before training: what the tree is afterwards, it was not trained with. "+" where it has changes.
    git = ["git", "describe", "--always", "--dirty=+"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    seen, held = (LrPatches(paths, cfg.shrink) for paths in photographs(cfg.photos, cfg.held_out))
    training = Training(cfg, out / f"{name}.checkpoint", device)
    training.run(seen, held)
    network = training.mean.cpu().eval()
    held_out = train_fusion(network, seen, held, cfg, out / f"{name}.witnesses")
    settings = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(settings, dict)
    stored.save(
        network,
        amortised.SHAPE,
        out / f"{name}.safetensors",
        {
            "photographs": len(seen.copies),
            "licence": "Apache-2.0",
            "training": {key: value for key, value in settings.items() if key not in PLACES},
            "commit": commit,
            "torch": torch.__version__,
        },
    )
    results = Path(cfg.results)
    results.mkdir(parents=True, exist_ok=True)
    with open(results / f"train_{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        scores = [f"{what}_x{scale}" for scale in cfg.patches for what in ("surprise", "median_error")]
        writer.writerow(["step", "surprise", "distance", "noise_loss", *scores, "seconds"])
        writer.writerows(training.curve)
    write_table(results / f"train_{name}_held_out.csv", held_out)
    training.checkpoint.unlink()
    print(f"{name}: {training.seconds:.0f} s; {training.curve[-1]}")


if __name__ == "__main__":
    main()
