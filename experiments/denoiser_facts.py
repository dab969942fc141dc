"""What a denoiser takes off: `python -m experiments.denoiser_facts experiments/results/denoiser_facts.csv [weights]`.

PSNR on the middles of the bundled photographs, which no training saw, with noise of several levels; beside it the best that
two classical filters do when their strength is chosen with the clean image in hand. Needs scikit-image (the test extra).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from skimage.restoration import denoise_tv_chambolle

from experiments.train_denoiser import LEVELS, photographs
from kernelsr import denoisers
from kernelsr.files import write_table

Filter = Callable[[np.ndarray, float], np.ndarray]


def blurred(image: np.ndarray, width: float) -> np.ndarray:
    return gaussian_filter(image, (width, width, 0), mode="reflect")


def flattened(image: np.ndarray, weight: float) -> np.ndarray:
    return denoise_tv_chambolle(image, weight, channel_axis=2)


def psnr(found: np.ndarray, clean: np.ndarray) -> float:
    """Of images (H, W, 3) on [-1, 1], clipped."""
    return float(-10 * np.log10(np.mean((np.clip(found, -1, 1) - clean) ** 2) / 4))


def best(one: Filter, noisy: list[np.ndarray], clean: list[np.ndarray], strengths: np.ndarray) -> float:
    """Mean PSNR, with the best strength for each image."""
    pairs = zip(noisy, clean, strict=True)
    return statistics.mean(max(psnr(one(image, strength), wanted) for strength in strengths) for image, wanted in pairs)


def facts(weights: str) -> list[dict[str, float]]:
    """A row for each noise level."""
    denoiser, clean = denoisers.load(weights), photographs()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    wanted = list(clean.permute(0, 2, 3, 1).numpy())
    rows = []
    for level in LEVELS:
        noisy = clean + level * noise
        with torch.no_grad():
            found = denoiser(noisy, torch.full((len(clean), 1, 1, 1), level))
        seen = list(noisy.permute(0, 2, 3, 1).numpy())
        rows.append(
            {
                "noise_level": level,
                "noisy": statistics.mean(map(psnr, seen, wanted)),
                "best_gaussian_filter": best(blurred, seen, wanted, np.geomspace(0.2, 40, 24)),
                "best_total_variation": best(flattened, seen, wanted, level * np.geomspace(0.1, 10, 12)),
                "denoiser": statistics.mean(map(psnr, found.permute(0, 2, 3, 1).numpy(), wanted)),
            }
        )
    return rows


def main() -> None:
    rows = facts(sys.argv[2] if len(sys.argv) > 2 else "bundled")
    write_table(sys.argv[1], rows)


if __name__ == "__main__":
    main()
