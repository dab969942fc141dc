"""What trainings have in common: the step of Adam, and a training that can be killed.

Each step draws from a generator of its own, so one that resumes from its checkpoint ends with the same numbers.
"""

from __future__ import annotations

import copy
import math
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from tqdm import tqdm


def cosine(step: int, steps: int, peak: float, rise: int = 200) -> float:
    """A rate that rises over its first steps, and falls to zero along a cosine."""
    return peak * min(1.0, (step + 1) / rise) * (1 + math.cos(math.pi * step / steps)) / 2


def trapezium(step: int, steps: int, peak: float) -> float:
    """A rate that rises over 200 steps, rests, and falls to zero over the last three tenths.

    While it rests, a training may still be made shorter or longer without a trace.
    """
    return peak * min(1.0, (step + 1) / 200, (steps - step) / (0.3 * steps))


def descend(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """A step at a rate; the gradients of each group are cut to norm 1 first, and dropped afterwards."""
    for group in optimizer.param_groups:
        nn.utils.clip_grad_norm_(group["params"], 1.0)
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, step: int, ema: float) -> None:
    """Move a running average of a network's weights and statistics."""
    now, keep = network.state_dict(), min(ema, (1 + step) / (10 + step))
    for name, value in average.state_dict().items():
        value.lerp_(now[name], 1 - keep) if value.is_floating_point() else value.copy_(now[name])


def commit() -> str:
    """The tree that trains, with "+" where it has changes. To be asked before training: what it is later did not train."""
    git = ["git", "describe", "--always", "--dirty=+"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


class Training:
    """A network, its running average and Adam; it can be written down and taken up again.

    Args:
        network: at its beginning.
        cfg: ``steps``, ``round`` (steps from one checkpoint to the next), ``lr``, ``ema``.
    """

    def __init__(self, network: nn.Module, cfg: DictConfig, checkpoint: Path, device: str):
        self.cfg, self.checkpoint = cfg, checkpoint
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

    def run(self, loss: Callable[[int], tuple[Tensor, Tensor]], validate: Callable[[nn.Module], list[float]]) -> None:
        """To the last step; the curve gets a row a round: step, mean parts of the loss, validation, seconds.

        Args:
            loss: of the network at a step, a number and the parts (m,) that are noted of it.
            validate: scores of the average.
        """
        for first in tqdm(range(self.step, self.cfg.steps, self.cfg.round), desc="rounds", mininterval=60):
            began = time.monotonic()
            last = min(first + self.cfg.round, self.cfg.steps)
            total = sum(self._step(loss, step) for step in range(first, last))
            self.step = last
            self.seconds += time.monotonic() - began
            assert isinstance(total, Tensor)
            self.curve.append([last, *(total / (last - first)).tolist(), *validate(self.mean.eval()), self.seconds])
            tqdm.write(" ".join(str(round(v, 4)) for v in self.curve[-1]))
            self.save()

    def _step(self, loss: Callable[[int], tuple[Tensor, Tensor]], step: int) -> Tensor:
        total, parts = loss(step)
        total.backward()
        descend(self.optimizer, cosine(step, self.cfg.steps, self.cfg.lr))
        follow(self.mean, self.network, step, self.cfg.ema)
        return parts.detach()
