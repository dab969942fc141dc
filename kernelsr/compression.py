"""What a JPEG compression left in an image: its quality, read off the image, and the error that this stands for."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy.fft import dctn
from scipy.optimize import minimize
from torch import Tensor

from kernelsr.blocks import SIDE, Blocks
from kernelsr.colours import grey
from kernelsr.problem import Problem

# fmt: off
TABLE = np.array([
    [16, 11, 10, 16,  24,  40,  51,  61],
    [12, 12, 14, 19,  26,  58,  60,  55],
    [14, 13, 16, 24,  40,  57,  69,  56],
    [14, 17, 22, 29,  51,  87,  80,  62],
    [18, 22, 37, 56,  68, 109, 103,  77],
    [24, 35, 55, 64,  81, 104, 113,  92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103,  99],
])
# fmt: on
"""Quantisation of luma that ITU-T T.81 (JPEG), table K.1, gives as an example and nearly all encoders scale."""
QUALITIES = range(5, 100)
ROUNDING = 0.4
"""Standard deviation of a coefficient about its multiple of the step, after decoding to 8 bits a channel."""
OUTLIERS = 0.05
"""Share of the coefficients that are anything: of blocks where the decoder had to clip."""
SURE = 20.0
"""Nats of evidence from which on an image counts as a JPEG."""
WORSE = 2.0
"""How many times as much noise a restorer is told as JPEG's errors amount to; experiments/jpegs.py."""
FEW = 8
"""Blocks without clipped pixels, from which on the others are left out."""
LOUDEST = 20 / 255
"""The most that is told of JPEG's errors: beyond, nothing was measured."""
MOST, ASKED = 1024, 256
"""Blocks that are looked at, and those of them that are asked for the quality."""
WEAK, FEWER = range(85, 99), 64
"""Qualities that need not show, and how many blocks are asked whether the image was a JPEG of these."""


def steps_of(quality: int) -> np.ndarray:
    """The steps (8, 8) to which libjpeg rounds the coefficients of luma at a quality from 1 to 100."""
    share = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((TABLE * share + 50) // 100).clip(1, 255)


def noise_level(problem: Problem) -> float:
    """The standard deviation, on the [0, 1] scale, of which a restorer that knows white noise only is best told: of what the
    problem says, and of what a JPEG compression left.

    The errors of JPEG lie within blocks, along edges and in the colours too, and do more harm than as much noise.
    """
    return math.hypot(problem.noise_std, min(WORSE * compression_error(problem.lr), LOUDEST))


def was_jpeg(image: Tensor) -> bool:
    """Whether an image (1, C, h, w) in [0, 1] was a JPEG: it shows the blocks, or it has the coefficients of a weak one.

    Of other than three colours the first channel is asked, as each is compressed by itself. An image of fewer than four
    blocks a side never was; experiments/worn.py measures the errors.
    """
    if min(image.shape[-2:]) < 4 * SIDE:
        return False
    image = _together(image)
    blocks = Blocks(grey(image))
    return blocks.visible or any(
        quality_of(coefficients(image, begin, FEWER), WEAK)[1] > SURE for begin in _beginnings(blocks)
    )


def compression_error(image: Tensor) -> float:
    """The root mean square error that JPEG left in the brightness of an image (1, C, h, w) in [0, 1]; 0 if it was no JPEG.

    Of an image in other than three colours it is that of its first channel, as each is compressed by itself.
    """
    if min(image.shape[-2:]) < 4 * SIDE:
        return 0.0
    image = _together(image)
    best, error = SURE, 0.0
    for begin in _beginnings(Blocks(grey(image))):
        found = coefficients(image, begin)
        quality, evidence = quality_of(found)
        if evidence > best:
            best, error = evidence, error_of(found, steps_of(quality)) / 255
    return error


def coefficients(image: Tensor, begin: tuple[int, int], most: int = MOST) -> np.ndarray:
    """Cosine coefficients (n, 8, 8) of an image's brightness, in grey levels: of blocks without clipped pixels, if any.

    Args:
        image: (1, C, h, w) in [0, 1].
        begin: row and column of the first block.
        most: as many blocks, taken from all over the image.
    """
    image = image.detach().float()[..., begin[0] :, begin[1] :]
    blocks = _blocks(255 * grey(image)[0, 0] - 128)
    whole = ~_blocks(((image <= 0) | (image >= 1)).any(1)[0]).any((1, 2))
    blocks = blocks[whole] if whole.sum() >= FEW else blocks
    chosen = np.linspace(0, len(blocks) - 1, min(len(blocks), most)).astype(int)
    return dctn(blocks[chosen].astype(np.float64), axes=(1, 2), norm="ortho")


def _together(image: Tensor) -> Tensor:
    """The channels that were compressed together, with the first."""
    return image if image.shape[1] == 3 else image[:, :1]


def _beginnings(blocks: Blocks) -> set[tuple[int, int]]:
    """Where the blocks may begin: few images are cropped once they are JPEGs, and weak compression hides its grid."""
    return {(0, 0), blocks.begin}


def _blocks(values: Tensor) -> np.ndarray:
    down, across = (length // SIDE for length in values.shape)
    cut = values[: SIDE * down, : SIDE * across].cpu().numpy().reshape(down, SIDE, across, SIDE)
    return cut.swapaxes(1, 2).reshape(-1, SIDE, SIDE)


def quality_of(found: np.ndarray, qualities: Iterable[int] = QUALITIES) -> tuple[int, float]:
    """The likeliest quality of an image with these coefficients (n, 8, 8), all of which lie near multiples of its steps.

    A coefficient counts as drawn from a Laplace distribution of its frequency, rounded to the step, and blurred by what the
    decoder rounds. Beside it how much likelier, in nats, those that did not become zero are so than never rounded: zeros
    are as well what is flat.
    """
    # What repeats itself, stripes or a ramp, is evidence once.
    _, distinct = np.unique(np.round(found.reshape(len(found), -1)[:, 1:]), axis=0, return_index=True)
    found = found[np.sort(distinct)[:: -(-len(distinct) // ASKED)]]
    # The constant part is no Laplace variable, and frequencies of which nothing is left tell nothing.
    told = np.abs(found).max(0, initial=0) > 4 * ROUNDING
    told[0, 0] = False
    values = np.abs(found[:, told], dtype=np.float32)
    asked = list(qualities)
    zeros, others = _evidence(values, np.stack([steps_of(quality)[told] for quality in asked]).astype(np.float32))
    best = int((zeros + others).argmax())
    return asked[best], float(others[best])


def _evidence(values: np.ndarray, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the coefficients (n, f) that are zero, and of the others, for each (q,) of the steps (q, f)."""
    spread, steps = values.mean(0), steps[:, None]
    number = np.round(values / steps)
    zero, off = number == 0, values - number * steps
    # The Laplace mass between two thresholds is the density there of what was rounded, to one of both signs; in units of the
    # density at the value itself.
    mass = np.where(zero, -2 * np.expm1(-steps / (2 * spread)), -np.expm1(-steps / spread))
    power = (values - (number - 0.5).clip(min=0) * steps) / spread - (off / ROUNDING) ** 2 / 2
    share = mass * spread * np.exp(power.clip(max=80)) / (ROUNDING * math.sqrt(2 * math.pi))
    gain = np.log((1 - OUTLIERS) * share + OUTLIERS)
    return np.where(zero, gain, 0).sum((1, 2)), np.where(zero, 0, gain).sum((1, 2))


def error_of(found: np.ndarray, steps: np.ndarray) -> float:
    """The root mean square of what rounding coefficients to multiples of ``steps`` has taken from an image, in grey levels.

    How wide the coefficients were spread where all are zero now, those of coarser details say: the spread falls smoothly
    with the frequency, and how many of each were rounded to zero is likeliest.
    """
    count = len(found)
    zero = (np.abs(found) < steps / 2).sum(0).ravel()[1:]
    half = steps.ravel()[1:] / 2
    radius = np.hypot(*np.mgrid[:SIDE, :SIDE]).ravel()[1:]
    basis = np.stack([np.ones_like(radius), np.log(radius), radius / SIDE])

    def surprise(unknowns: np.ndarray) -> float:
        beyond = (half * np.exp(-unknowns @ basis)).clip(1e-6, 500)  # -log of the chance of not becoming zero
        surprises = (count - zero) * beyond - zero * np.log(-np.expm1(-beyond))
        return float(surprises.sum() + 0.05 * unknowns @ unknowns)

    spread = np.exp(minimize(surprise, [3.0, -1.0, 0.0], method="L-BFGS-B").x @ basis)
    share = np.exp(-half / spread)
    lost = 2 * spread**2 - share * (half**2 + 2 * half * spread + 2 * spread**2) + share * half**2 / 3
    return math.sqrt((lost.sum() + steps[0, 0] ** 2 / 12) / SIDE**2)
