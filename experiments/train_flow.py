"""Train FKP's flow from any kernel family: `python -m experiments.train_flow scale=4 family=motion`.

The FKP protocol's Gaussians make the bundled flow_x4; any other family, support or centre a file of another name,
elsewhere, which runs take by path: `python run.py prior=fkp weights=outputs/flows/flow_motion_x4.safetensors`.
Kernels are synthesised in batches on the device. A training that was killed resumes from its checkpoint and ends with
the same numbers, because each epoch draws from a generator of its own.
"""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from experiments.training import commit
from kernelsr import flows
from kernelsr.families import (
    AnisotropicGaussian,
    KernelFamily,
    fkp_variances,
    gaussian_kernel,
    kernel_size_of,
    variance_range,
)
from kernelsr.problem import Problem, fkp_kernel_size


def validation_grid(scale: int, kernel_size: int, centre: str = "fkp") -> Tensor:
    """The kernels that FKP validates on: variances in steps of 0.3 up to one past the range, angles of 0.2; (n, 1, K, K)."""
    low, high = fkp_variances(scale)
    variances = torch.arange(low, high + 0.3, 0.3, dtype=torch.float64)
    angles = torch.arange(0, math.pi, 0.2, dtype=torch.float64)
    grid = torch.cartesian_prod(variances, variances, angles)
    return gaussian_kernel(*grid.unbind(1), kernel_size=kernel_size, scale=scale, centre=centre).float()


def validation_kernels(family: KernelFamily, problem: Problem) -> Tensor:
    """FKP's grid for FKP's family; of any other, 5000 draws of another seed (of stored kernels: the same kernels)."""
    if family == AnisotropicGaussian():
        return validation_grid(problem.scale, problem.kernel_size, problem.centre).to(problem.lr.device)
    return family(5000, problem, torch.Generator().manual_seed(2**40))


def mean_log_likelihood(flow: flows.KernelFlow, kernels: Tensor, seed: int = 0) -> float:
    """Mean log-density of the grid under a flow, dequantised with one fixed seed so that flows can be compared."""
    rng = torch.Generator(kernels.device).manual_seed(seed)
    flow.eval()
    with torch.no_grad():
        return torch.cat([flow.log_prob(flow.to_data(part, rng)) for part in kernels.split(5000)]).mean().item()


def peak(family: KernelFamily, problem: Problem, seed: int) -> float:
    """The highest value a kernel of the family takes: of the narrowest Gaussian, else the highest of 50,000 kernels."""
    if isinstance(family, AnisotropicGaussian):
        low = torch.tensor([variance_range(family.variances, problem.scale)[0]], dtype=torch.float64)
        narrowest = gaussian_kernel(
            low, low, torch.zeros_like(low), kernel_size=problem.kernel_size, scale=problem.scale, centre=problem.centre
        )
        # Kernel noise raises a pixel by (1 + noise), and the sum that divides it may fall by (1 - noise).
        return round(narrowest.max().item() * (1 + family.noise) / (1 - family.noise), 5)
    rng = torch.Generator().manual_seed(seed)
    return max(family(1000, problem, rng).max().item() for _ in range(50))


def train(cfg: DictConfig, family: KernelFamily, problem: Problem, checkpoint: Path) -> tuple[flows.KernelFlow, list]:
    """Train to the end, from the checkpoint if there is one; returns the flow and a row an epoch."""
    device = problem.lr.device
    size = problem.kernel_size
    if cfg.batch < 1 or cfg.kernels < 10 * cfg.batch:
        raise ValueError(
            f"kernels is {cfg.kernels} and batch is {cfg.batch}; an epoch needs at least ten batches of one kernel or more: "
            "set more kernels or a smaller batch"
        )
    torch.manual_seed(cfg.seed)
    hidden = cfg.hidden or flows.HIDDEN.get(cfg.scale, 25)
    normalization = peak(family, problem, cfg.seed) + 0.01
    flow = flows.KernelFlow(size, hidden, normalization, centre=problem.centre).to(device)
    optimizer = torch.optim.Adam(flow.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(cfg.milestones), gamma=0.5)
    first, curve, spent = 0, [], 0.0
    recipe = f"{family} x{problem.scale} {size}x{size} {problem.centre}"
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state["recipe"] != recipe:
            raise ValueError(
                f"{checkpoint} is of another training ({state['recipe']}, not {recipe}); remove it, or set name= or out="
            )
        flow.load_state_dict(state["flow"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        first, curve, spent = state["epoch"], state["curve"], state["seconds"]
    grid = validation_kernels(family, problem)
    for epoch in tqdm(range(first, cfg.epochs), initial=first, total=cfg.epochs, desc=f"flow x{cfg.scale}"):
        began = time.monotonic()
        rng = torch.Generator(device).manual_seed(cfg.seed * 100_003 + epoch)
        flow.train()
        total = torch.zeros((), device=device)
        for _ in range(cfg.kernels // (10 * cfg.batch)):
            # Ten batches at once: the spline shift of a thousand kernels costs little more than that of a hundred.
            data = flow.to_data(family(10 * cfg.batch, problem, rng), rng)
            for batch in data.split(cfg.batch):
                loss = -flow.log_prob(batch).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total -= loss.detach()
        schedule.step()
        spent += time.monotonic() - began
        steps = cfg.kernels // (10 * cfg.batch) * 10
        curve.append([epoch + 1, total.item() / steps, mean_log_likelihood(flow, grid), spent])
        state = {"flow": flow.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        partial = checkpoint.with_suffix(".partial")
        torch.save({**state, "recipe": recipe, "epoch": epoch + 1, "curve": curve, "seconds": spent}, partial)
        partial.replace(checkpoint)
    return flow.eval(), curve


def destination(cfg: DictConfig, family: KernelFamily, choice: str, problem: Problem) -> tuple[Path, str, Path]:
    """Folder and name of the flow, and the folder of its curve; a file that is there is not written over unasked.

    Args:
        choice: the family's name on the command line.
    """
    usual = problem.kernel_size == fkp_kernel_size(problem.scale) and problem.centre == "fkp"
    bundled = family == AnisotropicGaussian() and usual
    name = cfg.name or f"flow_x{cfg.scale}"
    if not (bundled or cfg.name):
        name = f"flow_{choice}_x{cfg.scale}" + ("" if usual else f"_k{problem.kernel_size}_{problem.centre}")
    out = Path(cfg.out or ("kernelsr/weights" if bundled else "outputs/flows"))
    results = Path(cfg.results or ("experiments/results" if bundled else out))
    path = out / f"{name}.safetensors"
    if path.exists() and not cfg.overwrite:
        raise ValueError(f"{path} is there already; set name= or out= to keep it, or overwrite=true to train it anew")
    return out, name, results


@hydra.main(version_base="1.3", config_path="../conf", config_name="train_flow")
def main(cfg: DictConfig) -> None:
    # The products of a hundred kernels are too small to share: threads would wait for one another most of the time.
    torch.set_num_threads(1)
    try:
        run(cfg)
    except (ValueError, FileNotFoundError, InstantiationException) as error:
        raise SystemExit(f"train_flow: {error}") from error


def run(cfg: DictConfig) -> None:
    """One training, from its settings to its file and curve."""
    device = ("cuda" if torch.cuda.is_available() else "cpu") if cfg.device == "auto" else cfg.device
    family = instantiate(cfg.family)
    # Only the scale, support, centre, device and dtype of this problem matter: a flow is trained without any image.
    blank = torch.zeros(1, 1, 64, 64, device=device)
    problem = Problem(blank, cfg.scale, cfg.kernel_size or kernel_size_of(family, cfg.scale), cfg.centre)
    out, name, results = destination(cfg, family, HydraConfig.get().runtime.choices["family"], problem)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / f"{name}.checkpoint"
    tree = commit()
    flow, curve = train(cfg, family, problem, checkpoint)
    flows.save(
        flow.cpu(),
        out / f"{name}.safetensors",
        scale=cfg.scale,
        family=OmegaConf.to_container(cfg.family),
        seed=cfg.seed,
        epochs=cfg.epochs,
        commit=tree,
        torch=torch.__version__,
        validation_log_likelihood=curve[-1][2],
    )
    results.mkdir(parents=True, exist_ok=True)
    with open(results / f"train_{name}.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "train_log_likelihood", "validation_log_likelihood", "seconds"])
        writer.writerows(curve)
    checkpoint.unlink()
    print(f"{out / name}.safetensors: validation log-likelihood {curve[-1][2]:.2f} nats after {curve[-1][3]:.0f} s")


if __name__ == "__main__":
    main()
