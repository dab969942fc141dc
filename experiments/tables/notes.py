"""What is said under a table: images that failed or look wrong, by name; targets of single images; where rows come from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.published import PUBLISHED, targets
from experiments.tables.lines import COLUMNS, Group, Place, value
from experiments.tables.records import Record

MADE = "made by "
SPREAD = "± is the sample standard deviation over images; each image counts once, by its mean over seeds"


def notes(groups: Sequence[Group], registry: Path = PUBLISHED) -> list[str]:
    """The lines under the table of these groups."""
    rows = [row for group in groups for members in group.methods.values() for row in members]
    return [SPREAD, *_failed(rows), *_flagged(rows), *_single(groups, registry), *_made(rows)]


def place_of(place: Place) -> str:
    """Data, scale and noise in words."""
    data, noise, scale = place
    levels = zip(("kernel noise", "image noise"), levels_of(noise), strict=True)
    return ", ".join([f"{data} x{scale}", *(f"{name} {level}" for name, level in levels if level)])


def levels_of(noise: tuple[str, str]) -> tuple[str, str]:
    """Noise of the kernel and of the image as shown: that of the image in levels of 8 bits where it is a whole number."""
    kernel, image = noise
    try:
        steps = float(image) * 255
    except ValueError:
        return kernel, image
    return kernel, f"{steps:.0f}/255" if abs(steps - round(steps)) < 1e-3 else image


def _place(row: Record) -> str:
    return place_of((row.data, row.noise, row.scale))


def _failed(rows: Iterable[Record]) -> list[str]:
    return [
        f"failed: {row.image} ({row.method}, {_place(row)}, seed {row.seed}): {row.error}" for row in rows if row.error
    ]


def _flagged(rows: Sequence[Record]) -> list[str]:
    """Methods with the images that look wrong: one line a method and place."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    several = len({row.seed for row in rows if not row.floor}) > 1
    for row in rows:
        if row.flags and not row.error:
            number = value(row.values, "final_psnr")
            level = "" if number is None else f" at {COLUMNS['psnr'].show(number)} dB"
            seed = f", seed {row.seed}" if several else ""
            found[row.method, _place(row)].append(f"{row.image}{seed}{level} ({', '.join(row.flags)})")
    return [f"flagged: {method}, {place}: {'; '.join(images)}" for (method, place), images in found.items()]


def _single(groups: Iterable[Group], registry: Path) -> list[str]:
    """Published numbers of an image among others, each with ours of the same image and metric."""
    said = []
    for group in groups:
        data, noise, scale = group.place
        wanted = [] if any(noise) or len(group.images) == 1 else targets(data, scale, registry)
        for target in wanted:
            ours = [
                f"{row.method} {COLUMNS[target.metric].show(row.values[target.metric])}"
                for name, members in group.methods.items()
                for row in members
                if same_method(name, target.method) and row.image == target.image and target.metric in row.values
            ]
            if ours:
                column = COLUMNS[target.metric]
                said.append(
                    f"{target.image}, {place_of(group.place)}, {column.name}: {target.method} {column.show(target.value)} "
                    f"({target.source}), here {'; '.join(ours)}"
                )
    return said


def same_method(ours: str, theirs: str) -> bool:
    """Whether our line is the published method: by its first part, as in dip_fkp+usrnet and DIP-FKP + USRNet."""
    if theirs.startswith("true kernel"):
        return ours == "bound: true kernel + usrnet"
    return ours.split("+")[0].split()[0] == theirs.split("+")[0].strip().lower().replace("-", "_")


def _made(rows: Iterable[Record]) -> list[str]:
    """Versions, machines and dates behind the methods' numbers."""
    made = sorted({row.made for row in rows if not row.floor})
    return [MADE + f"{'; '.join(', '.join(word for word in each if word) for each in made)}"] if made else []
