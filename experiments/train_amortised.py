"""Train the network of prior=amortised: `python -m experiments.train_amortised photos=PATH`.

A training that was killed resumes from its checkpoint and ends with the same numbers.
"""

from __future__ import annotations

import csv
from pathlib import Path

import hydra
import torch
import torch.nn.functional as F
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from experiments.beliefs import surprise
from experiments.lr_patches import LrPatches, gaussians, photographs
from experiments.train_fusion import train_fusion
from experiments.training import Training, commit
from kernelsr import amortised, stored
from kernelsr.beliefs import shape_of
from kernelsr.files import write_table
from kernelsr.learner import initialised_from
from kernelsr.seeds import seed_for

WEIGHTS = (1.0, 1.0, 0.1)
QUIETEST = 1e-4  # what black is rounded to adds nothing
PLACES = ("photos", "out", "results")  # where things lay on the machine that trained is nobody's business


def batch(
    photographs: LrPatches, count: int, scale: int, rng: torch.Generator, cfg: DictConfig, hard: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Patches at one scale, the covariances of their kernels, and the noise of each."""
    kernel, covariance = gaussians(count, scale, rng)
    drawn = photographs.draw(kernel, cfg.side, scale, rng, cfg, hard)
    return drawn.patches, covariance, drawn.noise_std


def losses(network: nn.Module, patches: Tensor, scales: Tensor, shape: Tensor, noise: Tensor) -> Tensor:
    """Surprise by the true shapes, distance of the means to them, and squared error of the log of the noise.

    The distance pulls where the density is still too wide to.
    """
    evidence = network(patches, scales)
    belief = amortised.combined(amortised.known(scales), evidence)
    distance = F.smooth_l1_loss(belief.mean, shape, beta=0.1)
    missed = (evidence.noise - noise.clamp(min=QUIETEST).log()).square().mean()
    return torch.stack([surprise(belief, shape).mean(), distance, missed])


@torch.no_grad()
def validate(network: nn.Module, held: LrPatches, cfg: DictConfig, device: str) -> list[float]:
    """On patches of photographs that are held out: surprise, median error of the shape's three numbers at each scale."""
    found = []
    for scale in cfg.patches:
        rng = torch.Generator().manual_seed(seed_for(cfg.seed, "validation", str(scale)))
        patches, covariance, _ = batch(held, 96, scale, rng, cfg)
        scales = torch.full((96,), scale, device=device)
        belief = amortised.combined(amortised.known(scales), network(patches.to(device), scales))
        shape = shape_of(covariance.to(device))
        found += [surprise(belief, shape).mean().item(), (belief.mean - shape).norm(dim=1).median().item()]
    return found


def train(cfg: DictConfig, seen: LrPatches, held: LrPatches, checkpoint: Path, device: str) -> Training:
    """To the last step, from the checkpoint if there is one."""
    with initialised_from(torch.Generator().manual_seed(cfg.seed)):
        network = amortised.PosteriorNetwork(tuple(cfg.widths), cfg.features, tuple(cfg.patches))
    training = Training(network, cfg, checkpoint, device)

    def loss(step: int) -> tuple[Tensor, Tensor]:
        rng = torch.Generator().manual_seed(seed_for(cfg.seed, "training", str(step)))
        # Every scale is in every batch, or batch norm would learn each by itself and judge by their mixture.
        hard = min(1.0, step / (cfg.ramp * cfg.steps))
        drawn = [batch(seen, n, scale, rng, cfg, hard) for scale, n in cfg.patches.items()]
        patches, covariance, noise = (torch.cat(parts).to(device) for parts in zip(*drawn, strict=True))
        scales = torch.tensor([scale for scale, n in cfg.patches.items() for _ in range(n)], device=device)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=cfg.bfloat16):
            parts = losses(training.network, patches, scales, shape_of(covariance), noise)
        return (parts * parts.new_tensor(WEIGHTS)).sum(), parts

    training.run(loss, lambda mean: validate(mean, held, cfg, device))
    return training


@hydra.main(version_base="1.3", config_path="../conf", config_name="train_amortised")
def main(cfg: DictConfig) -> None:
    if cfg.photos is None:
        raise SystemExit("photos names the folder of photographs to train on: photos=PATH; none are bundled")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device
    out, name, tree = Path(cfg.out), cfg.name, commit()
    out.mkdir(parents=True, exist_ok=True)
    seen, held = (LrPatches(paths, cfg.shrink, device) for paths in photographs(cfg.photos, cfg.held_out))
    training = train(cfg, seen, held, out / f"{name}.checkpoint", device)
    network = training.mean.cpu().eval()
    assert isinstance(network, amortised.PosteriorNetwork)
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
            "commit": tree,
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
