"""The second part of training prior=amortised: how an image's patches and its spectrum are weighed against each other.

On whole images, where the first part sees single patches. Both are the library's own, so what is learned is how far to trust
what is used.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from experiments.beliefs import surprise
from experiments.lr_patches import LrPatches, gaussians
from experiments.training import cosine, descend
from kernelsr.amortised import PosteriorNetwork
from kernelsr.beliefs import shape_of
from kernelsr.fusion import Fusion, Witnesses, stacked
from kernelsr.learner import initialised_from
from kernelsr.priors import Spectral
from kernelsr.priors.amortised import witnesses
from kernelsr.problem import Problem, fkp_kernel_size
from kernelsr.seeds import generator

NINETY = 6.251  # of chi-squared with three degrees of freedom
BATCH = 64
Drawn = tuple[Witnesses, Tensor, Tensor]
"""What is known of n images, the true shapes (n, 3) and which photographs (n,) they are of."""


def train_fusion(
    network: PosteriorNetwork, seen: LrPatches, held: LrPatches, cfg: DictConfig, checkpoint: Path
) -> list[dict[str, Any]]:
    """Train the network's fusion; how it does on photographs that are held out, a row a scale."""
    drawn = draw(network, seen, cfg, cfg.images, checkpoint)
    fusion = fitted(drawn, cfg)
    fusion.get_buffer("temper").copy_(tempered(drawn, cfg))
    network.fusion.load_state_dict(fusion.state_dict())
    rows = scores(network.fusion, draw(network, held, cfg, cfg.images // 4, checkpoint.with_suffix(".held")))
    checkpoint.unlink()
    checkpoint.with_suffix(".held").unlink()
    return rows


def draw(network: PosteriorNetwork, photographs: LrPatches, cfg: DictConfig, count: int, checkpoint: Path) -> Drawn:
    """``count`` images of each scale, as large as the benchmarks'. It goes on from the checkpoint, if there is one."""
    jobs = [(scale, number) for number in range(count) for scale in network.scales]
    # Of another network, or drawn by other settings, what is there is of no use.
    mark = [cfg.seed, str(cfg.whole), *(value.double().sum().item() for value in network.layers.state_dict().values())]
    made, done = torch.load(checkpoint, weights_only=False) if checkpoint.exists() else (mark, [])
    done = done if made == mark else []
    for place, (scale, number) in enumerate(tqdm(jobs, desc="whole images", mininterval=60)):
        if place < len(done):
            continue
        rng = generator(cfg.seed, checkpoint.suffix, str(scale), str(number))
        side = int(torch.randint(cfg.whole.sides[0], cfg.whole.sides[1] + 1, (), generator=rng))
        lr_side = (side - fkp_kernel_size(scale)) // scale + 1
        kernel, covariance = gaussians(1, scale, rng)
        image = photographs.draw(kernel, lr_side, scale, rng, cfg.whole)
        problem = Problem(image.patches.cpu(), scale, noise_std=image.level.item())
        said = witnesses(problem, Spectral(problem, rng), network, cfg.whole.windows)
        done.append((said, shape_of(covariance), image.photograph))
        if len(done) % 200 == 0:
            _save(mark, done, checkpoint)
    _save(mark, done, checkpoint)
    parts, shapes, numbers = zip(*done, strict=True)
    return stacked(parts), torch.cat(shapes), torch.cat(numbers)


def _save(mark: list[Any], done: list[Drawn], checkpoint: Path) -> None:
    partial = checkpoint.with_suffix(".partial")
    torch.save((mark, done), partial)
    partial.replace(checkpoint)


def fitted(drawn: Drawn, cfg: DictConfig) -> Fusion:
    """A fusion that the true shapes surprise least."""
    said, shapes, _ = drawn
    with initialised_from(generator(cfg.seed, "fusion")):
        fusion = Fusion(tuple(cfg.patches))
    optimizer = torch.optim.AdamW(fusion.parameters(), weight_decay=cfg.whole.decay)
    rng = generator(cfg.seed, "fusion", "order")
    steps = cfg.whole.epochs * math.ceil(len(shapes) / BATCH)
    order: list[Tensor] = []
    for step in range(steps):
        order = order or list(torch.randperm(len(shapes), generator=rng).split(BATCH))
        rows = order.pop()
        belief = fusion(said.at(rows))
        distance = F.smooth_l1_loss(belief.mean, shapes[rows], beta=0.1)
        (surprise(belief, shapes[rows]).mean() + cfg.whole.distance * distance).backward()
        descend(optimizer, cosine(step, steps, cfg.whole.lr, rise=100))
    return fusion.eval().requires_grad_(False)


def tempered(drawn: Drawn, cfg: DictConfig) -> Tensor:
    """What precisions are to be multiplied with at each scale, for the central 90 % to hold 90 % of the truths.

    On photographs that the fusion was not trained on, each fold's by a fusion of the others.
    """
    said, shapes, numbers = drawn
    far = torch.zeros(len(shapes))
    for fold in range(cfg.whole.folds):
        inside = numbers % cfg.whole.folds == fold
        rest = (~inside).nonzero()[:, 0]
        fusion = fitted((said.at(rest), shapes[rest], numbers[rest]), cfg)
        rows = inside.nonzero()[:, 0]
        far[rows] = fusion(said.at(rows)).distance(shapes[rows])
    return torch.stack([NINETY / far[said.scale == scale].quantile(0.9) for scale in cfg.patches])


def scores(fusion: Fusion, drawn: Drawn) -> list[dict[str, Any]]:
    """How a fusion does beside the witnesses alone: a row a scale."""
    said, shapes, _ = drawn
    rows = []
    for scale in fusion.scales:
        here = (said.scale == scale).nonzero()[:, 0]
        part, true = said.at(here), shapes[here]
        beliefs = {"patches": part.patches, "spectrum": part.spectrum, "fusion": fusion(part)}
        row: dict[str, Any] = {"scale": scale, "images": len(true)}
        for name, belief in beliefs.items():
            row[f"median_error_{name}"] = (belief.mean - true).norm(dim=1).median().item()
            row[f"inside_90_{name}"] = (belief.distance(true) < NINETY).float().mean().item()
        rows.append(row)
    return rows
