"""Why do my numbers differ? The same estimates scored under every protocol: `python -m experiments.rescore outputs/...`.

Takes folders of runs, of sweeps, or above them. Nothing is estimated again: sr.png, hr.png and the kernels are read, beside
rows.csv; an estimate that lies in several folders counts once. Below the protocols stand ways of scoring that are met
elsewhere, and the image moved to where it fits best.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.saved import Saved, estimates, runs_in
from kernelsr import metrics
from kernelsr.configure import compose_config
from kernelsr.files import write_table
from kernelsr.metrics import Scoring
from kernelsr.paths import CONF

WORDS = ("run", "data", "method", "scale", "image")
SETTINGS = ("border", "channel", "kernel_size")
NUMBERS = ("psnr", "ssim", "kernel_psnr")
COLUMNS = (*WORDS, "scoring", *SETTINGS, *NUMBERS, "down", "right", "gain")
OWN, MOVED = "as in rows.csv", "moved to where it fits best"
TOLD = 0.5
"""dB that a move has to gain before it is spoken of."""

Score = dict[str, Any]


@cache
def protocols(scale: int) -> dict[str, Scoring]:
    """How each protocol scores at a scale, by name."""
    names = sorted(path.stem for path in (CONF / "protocol").glob("*.yaml") if path.stem != "none")
    settings = {name: compose_config([f"protocol={name}", f"scale={scale}"]).scoring for name in names}
    return {name: Scoring(**scoring) for name, scoring in settings.items()}


def elsewhere(scale: int) -> dict[str, Scoring]:
    """Ways of scoring that are no protocol's table, but met."""
    return {
        "DKP's log of each step": Scoring(scale**2),
        "no border": Scoring(0),
        "Y as in JPEG, OpenCV, kornia": Scoring(scale, "y_full_range"),
        "all three channels": Scoring(scale, "rgb"),
    }


def scores(saved: Saved, ways: dict[str, Scoring]) -> list[Score]:
    """The numbers of one image: as its row has them, under each way of scoring, and moved to where it fits best."""
    sr, hr, border = saved.sr, saved.hr, 2 * saved.scale
    found: list[Score] = [{"scoring": OWN, **{key: getattr(saved, key) for key in NUMBERS}}]
    for name, scoring in ways.items():
        score: Score = {"scoring": name, **vars(scoring)}
        if saved.kernel is not None and saved.true_kernel is not None:
            score["kernel_psnr"] = metrics.kernel_psnr(saved.kernel, saved.true_kernel, scoring.kernel_size)
        if sr is not None and hr is not None and _fits(hr, scoring.border):
            score |= metrics.score_image(sr, hr, scoring)
        found.append(score)
    if sr is not None and hr is not None and _fits(hr, border):
        found.append({"scoring": MOVED, **vars(Scoring(border)), **moved(sr, hr, saved.scale, border)})
    words = {name: getattr(saved, name) for name in WORDS}
    return [words | score for score in found]


def _fits(image: Tensor, border: int) -> bool:
    """Whether SSIM's window fits inside the border."""
    return min(image.shape[2:]) >= 2 * border + 11


def moved(sr: Tensor, hr: Tensor, reach: int, border: int) -> Score:
    """PSNR and SSIM at the move by whole pixels, of up to ``reach`` each way, that makes the image fit best.

    An image made for kernels of one centre and scored on the other's grid is s - 1 pixels off both ways. The border is at
    least ``reach``, so that every move is scored on the same pixels; ``gain`` is over not moving.
    """
    height, width = (side - 2 * border for side in hr.shape[2:])
    target = hr[..., border : border + height, border : border + width]
    found = {}
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            there = sr[..., border - down :, border - right :][..., :height, :width]
            found[down, right] = metrics.psnr(there, target, border=0)
    # Where several are best, as in a constant image, the shortest.
    down, right = max(found, key=lambda move: (found[move], -abs(move[0]) - abs(move[1])))
    there = sr[..., border - down :, border - right :][..., :height, :width]
    gain = found[down, right] - found[0, 0] if (down, right) != (0, 0) else 0.0
    return {**metrics.score_image(there, target, Scoring(0)), "down": down, "right": right, "gain": gain}


def table(rows: Sequence[Score]) -> str:
    """The mean of each way of scoring, by data, method and scale; protocols that score alike share a line."""
    out = []
    for group in dict.fromkeys((row["data"], row["method"], row["scale"]) for row in rows):
        members = [row for row in rows if (row["data"], row["method"], row["scale"]) == group]
        images, kept = (len({tuple(row[word] for word in words) for row in members}) for words in (["image"], WORDS))
        title = ", ".join(word for word in (group[0], f"{group[1]} x{group[2]}") if word)
        counted = f"{images} image{'s' if images > 1 else ''}" + (f" ({kept} estimates)" if kept > images else "")
        out += [f"{title}: mean over {counted}"]
        heads = ("PSNR", "SSIM", "change", "kernel")
        out += [f"{'':34}{'border':>7} {'channel':13}{'support':>9}" + "".join(f"{head:>9}" for head in heads)]
        own = _mean(members, OWN, "psnr")
        for names, way in _alike(members):
            psnr, ssim, kernel = (_mean(members, names[0], key) for key in NUMBERS)
            change = None if own is None or psnr is None or OWN in names else psnr - own
            support = f"{way['kernel_size']}x{way['kernel_size']}" if way.get("kernel_size") else ""
            cells = [_cell(psnr, ".2f"), _cell(ssim, ".4f"), _cell(change, "+.2f"), _cell(kernel, ".2f")]
            *above, last = _lines(names)
            out += [
                *above,
                f"{last:34}{way.get('border', ''):>7} {way.get('channel', ''):13}{support:>9}{''.join(cells)}",
            ]
        out += _sentences(members)
        out += [""]
    return "\n".join([*out, "PSNR, change (against rows.csv) and kernel PSNR in dB. The protocols: docs/protocols.md"])


def _alike(rows: Sequence[Score]) -> list[tuple[list[str], Score]]:
    """The ways of scoring by name, those of the same settings together, and a row with these settings."""
    ways: dict[tuple, tuple[list[str], Score]] = {}
    for row in rows:
        name = row["scoring"]
        settings = tuple(row.get(key) for key in SETTINGS)
        names, _ = ways.setdefault((name if name in (OWN, MOVED) else "", *settings), ([], row))
        if name not in names:
            names.append(name)
    return list(ways.values())


def _mean(rows: Sequence[Score], scoring: str, key: str) -> float | None:
    """The mean over the images that have this number."""
    values = [row[key] for row in rows if row["scoring"] == scoring and row.get(key) is not None]
    return statistics.fmean(values) if values else None


def _sentences(rows: Sequence[Score]) -> list[str]:
    """What is to be said of images that fit better elsewhere, a line for each move."""
    far = [row for row in rows if row.get("gain", 0) >= TOLD]
    lines = []
    for down, right in dict.fromkeys((row["down"], row["right"]) for row in far):
        gains = {row["image"]: row["gain"] for row in far if (row["down"], row["right"]) == (down, right)}
        names = ", ".join(list(gains)[:5]) + (f" and {len(gains) - 5} more" if len(gains) > 5 else "")
        off = abs(down) == abs(right) == far[0]["scale"] - 1
        cause = ": made for kernels of another centre" if off else ""
        gain = f"{min(gains.values()):.1f} to {max(gains.values()):.1f} dB better"
        where = f"{abs(down)} {'up' if down < 0 else 'down'}, {abs(right)} {'left' if right < 0 else 'right'}"
        lines += [f"moved {where}: {gain}{cause} ({names})"]
    return lines


def _lines(names: Sequence[str], width: int = 33) -> list[str]:
    """Names on lines of ``width`` characters."""
    lines = [names[0]]
    for name in names[1:]:
        if len(lines[-1]) + 2 + len(name) <= width:
            lines[-1] += f", {name}"
        else:
            lines[-1] += ","
            lines.append(name)
    return lines


def _cell(value: float | None, form: str) -> str:
    return f"{'-' if value is None else format(value, form):>9}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="outputs/<date>/<time>, or above")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write a row for each image and way of scoring")
    options = parser.parse_args()
    rows: list[Score] = []
    seen = set()
    try:
        for run in runs_in(options.folders):
            for saved in estimates(run):
                if saved.what not in seen:
                    seen.add(saved.what)
                    rows += scores(saved, protocols(saved.scale) | elsewhere(saved.scale))
        if not rows:
            raise ValueError("there is nothing to score; the lines above say why")
        print(table(rows))
        if options.csv:
            write_table(options.csv, [dict.fromkeys(COLUMNS) | row for row in rows])
            print(f"rows: {options.csv}")
    except (ValueError, OSError) as error:
        sys.exit(f"rescore: {error}")


if __name__ == "__main__":
    main()
