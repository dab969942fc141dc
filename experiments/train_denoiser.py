"""Train the small denoiser of restorer=diffusion on photographs: `python -m experiments.train_denoiser photos=PATH`.

A training that was killed resumes from its checkpoint and ends with the same numbers, because each round of steps draws
from a generator of its own.
"""

from __future__ import annotations

import copy
import csv
import math
import time
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from experiments.patches import Patches
from experiments.training import commit, descend, follow, trapezium
from kernelsr.denoisers import small
from kernelsr.images import read_image
from kernelsr.learner import initialised_from
from kernelsr.official import find_image_set

LEVELS = (0.02, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Noise levels at which the denoiser is validated, on the [-1, 1] scale."""


def noise_levels(count: int, rng: torch.Generator) -> Tensor:
    """Standard deviations (count, 1, 1, 1): most where a photograph takes shape, a fifth over the whole diffusion.

    Four of five are log-normal as in EDM, a fifth is log-uniform from 0.005 to 200, a little more than the linear
    schedule's 0.01 to 157.
    """
    middle = (1.4 * torch.randn(count, generator=rng) - 1.2).exp()
    anywhere = (math.log(0.005) + torch.rand(count, generator=rng) * math.log(200 / 0.005)).exp()
    choice = torch.rand(count, generator=rng) < 0.8
    return torch.where(choice, middle, anywhere).clamp(0.005, 200)[:, None, None, None]


def photographs() -> Tensor:
    """The middles (4, 3, 144, 144) in [-1, 1] of the bundled photographs, which no training sees."""
    middles = []
    for file in sorted(find_image_set("demo").glob("*.png")):
        image = read_image(file)
        top, left = (image.shape[2] - 144) // 2, (image.shape[3] - 144) // 2
        middles.append(image[..., top : top + 144, left : left + 144].expand(-1, 3, -1, -1))
    return 2 * torch.cat(middles) - 1


@torch.no_grad()
def validate(denoiser: small.Small) -> list[float]:
    """PSNR on the [0, 1] scale, a mean over the bundled photographs, at each of LEVELS; always with the same noise."""
    device = next(denoiser.parameters()).device
    clean = photographs()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    found = []
    for level in LEVELS:
        sigma = torch.full((len(clean), 1, 1, 1), level, device=device)
        restored = denoiser((clean + level * noise).to(device), sigma).cpu().clamp(-1, 1)
        errors = ((restored - clean) / 2).square().mean((1, 2, 3))
        found.append((-10 * errors.log10()).mean().item())
    return found


def train_round(
    cfg: DictConfig,
    denoiser: small.Small,
    mean: small.Small,
    optimizer: torch.optim.Optimizer,
    patches: Patches,
    first: int,
) -> float:
    """The steps up to the next checkpoint; returns their mean loss."""
    device = next(denoiser.parameters()).device
    rng = torch.Generator().manual_seed(cfg.seed * 100_003 + first)
    last = min(first + cfg.round, cfg.steps)
    total = torch.zeros((), device=device)
    for step in range(first, last):
        clean = (2 * patches.draw(cfg.batch, cfg.side, rng) - 1).to(device, memory_format=torch.channels_last)
        sigma = noise_levels(cfg.batch, rng).to(device)
        noisy = clean + sigma * torch.randn(clean.shape, generator=rng).to(clean)
        with torch.autocast(device.type, torch.bfloat16, enabled=cfg.bfloat16):
            restored = denoiser(noisy, sigma)
        # What EDM's preconditioning makes of it: every noise level weighs the same.
        weight = (sigma.square() + small.SPREAD**2) / (sigma * small.SPREAD).square()
        loss = (weight * (restored.float() - clean).square()).mean()
        loss.backward()
        descend(optimizer, trapezium(step, cfg.steps, cfg.lr))
        follow(mean, denoiser, step, cfg.ema)
        total += loss.detach()
    return total.item() / (last - first)


def train(cfg: DictConfig, patches: Patches, checkpoint: Path, device: str) -> tuple[small.Small, list[list[float]]]:
    """Train to the end, from the checkpoint if there is one; returns the averaged denoiser and a row a round."""
    with initialised_from(torch.Generator().manual_seed(cfg.seed)):
        denoiser = small.Small(tuple(cfg.channels), cfg.blocks)
    denoiser = denoiser.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean = copy.deepcopy(denoiser)
    optimizer = torch.optim.Adam(denoiser.parameters(), cfg.lr, fused=True)
    first, curve, spent = 0, [], 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        denoiser.load_state_dict(state["denoiser"])
        mean.load_state_dict(state["mean"])
        optimizer.load_state_dict(state["optimizer"])
        first, curve, spent = state["step"], state["curve"], state["seconds"]
    for step in tqdm(range(first, cfg.steps, cfg.round), desc="denoiser, rounds"):
        began = time.monotonic()
        loss = train_round(cfg, denoiser, mean, optimizer, patches, step)
        done = min(step + cfg.round, cfg.steps)
        spent += time.monotonic() - began
        curve.append([done, loss, *validate(mean), spent])
        state = {"denoiser": denoiser.state_dict(), "mean": mean.state_dict(), "optimizer": optimizer.state_dict()}
        partial = checkpoint.with_suffix(".partial")
        torch.save({**state, "step": done, "curve": curve, "seconds": spent}, partial)
        partial.replace(checkpoint)
    return mean.eval(), curve


@hydra.main(version_base="1.3", config_path="../conf", config_name="train_denoiser")
def main(cfg: DictConfig) -> None:
    if cfg.photos is None:
        raise SystemExit("photos names the folder of photographs to train on: photos=PATH; none are bundled")
    device = ("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device
    out, tree = Path(cfg.out), commit()
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "denoiser_small.checkpoint"
    patches = Patches(cfg.photos)
    denoiser, curve = train(cfg, patches, checkpoint, device)
    small.save(
        denoiser.cpu(),
        out / "denoiser_small.safetensors",
        photographs=len(patches.names),
        seed=cfg.seed,
        steps=cfg.steps,
        batch=cfg.batch,
        side=cfg.side,
        commit=tree,
        torch=torch.__version__,
        validation_psnr=dict(zip(map(str, LEVELS), curve[-1][2:-1], strict=True)),
    )
    results = Path(cfg.results)
    results.mkdir(parents=True, exist_ok=True)
    with open(results / "train_denoiser_small.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", "loss", *(f"psnr_at_{level}" for level in LEVELS), "seconds"])
        writer.writerows(curve)
    checkpoint.unlink()
    print(f"denoiser_small: {curve[-1][-1]:.0f} s; validation PSNR {curve[-1][2:-1]}")


if __name__ == "__main__":
    main()
