"""Groups and lines of a table: the methods on the same images, then the floors and bounds of these images, then targets."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.published import PUBLISHED, Published, targets
from experiments.tables.layout import Cell, Head
from experiments.tables.records import BESIDE, Record
from kernelsr.statistics import Summary, summarise
from kernelsr.tables import SHOWN, Column

Place = tuple[str, tuple[str, str], int]
COLUMNS = {column.key: column for column in SHOWN}
COLUMNS["final_psnr"], COLUMNS["final_ssim"] = COLUMNS["psnr"], COLUMNS["ssim"]
TITLES = {
    "final_psnr": "PSNR",
    "final_ssim": "SSIM",
    "psnr": "PSNR of the solver",
    "variance_error": "variance error, %",
    "kernel_psnr": "kernel PSNR",
    "kernel_psnr_shifted": "kernel PSNR, shifted",
    "centroid_error": "centre error, px",
    "seconds": "seconds",
    "peak_memory_mb": "peak memory, MB",
    "parameters": "parameters",
}


@dataclass(frozen=True)
class Group:
    """Methods that were tried on the same images of the same data, so that their means compare.

    Args:
        place: data, noise and scale.
        images: that were tried, failed ones included.
        some: whether other methods were tried on more of these data's images.
        methods: records by method, floors after methods.
    """

    place: Place
    images: frozenset[str]
    some: bool
    methods: dict[str, list[Record]]

    @property
    def label(self) -> str:
        """The data, and the images where they are few of them."""
        data = self.place[0]
        if not self.some:
            return data
        names = sorted(self.images)
        return f"{data}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"


def groups_of(records: Iterable[Record]) -> list[Group]:
    """Groups in order of data, scale, noise; methods that were tried on fewer images come in groups of their own."""
    places: dict[Place, list[Record]] = defaultdict(list)
    for record in records:
        places[record.data, record.noise, record.scale].append(record)
    groups = []
    for place in sorted(places, key=lambda place: (place[0], place[2], place[1])):
        members: dict[str, list[Record]] = defaultdict(list)
        for record in places[place]:
            members[record.method].append(record)
        tried = {name: frozenset(row.image for row in rows) for name, rows in members.items()}
        sets = {tried[name] for name in members if not name.startswith(BESIDE)}
        most = max(map(len, sets), default=0)
        for images in sorted(sets, key=lambda images: (-len(images), sorted(images))):
            methods = {name: members[name] for name in sorted(members) if tried[name] == images and not _beside(name)}
            done = {row.image for rows in methods.values() for row in rows if not row.error}
            for name in sorted(filter(_beside, members), key=order):
                rows = [row for row in members[name] if row.image in images]
                # A floor of some of the images only would be compared with the methods' means over all.
                if rows and done <= {row.image for row in rows}:
                    methods[name] = rows
            groups.append(Group(place, images, len(images) < most or len(images) == 1, methods))
    return groups


def value(values: dict[str, float], key: str) -> float | None:
    """A metric of a row; ``final`` is the image to look at, the non-blind one where there is one."""
    if key.startswith("final_"):
        metric = key.removeprefix("final_")
        return values.get(f"{metric}_nonblind", values.get(metric))
    if key == "psnr" and "psnr_nonblind" not in values:
        return None
    return values.get(key)


def by_image(rows: Iterable[Record], key: str) -> dict[tuple[str, int | None], float]:
    """The known values of a metric by (image, seed)."""
    found = {(row.image, row.seed): value(row.values, key) for row in rows if not row.error}
    return {what: number for what, number in found.items() if number is not None}


def heads(keys: Sequence[str]) -> list[Head]:
    """The columns of metrics; in CSV with their spread over images, and over seeds, beside them."""
    names = {key: key.removeprefix("final_") if key != "psnr" else "psnr_solver" for key in keys}
    return [Head(TITLES[key], (names[key], f"{names[key]}_sd", f"{names[key]}_seed_sd")) for key in keys]


def counts(rows: Sequence[Record]) -> list[Cell]:
    """How many images are behind a line, of how many tried, and how many seeds."""
    done, tried = ({row.image for row in rows if not row.error or every} for every in (False, True))
    seeds = len({row.seed for row in rows if row.seed is not None})
    failed = "" if done == tried else f" of {len(tried)}"
    return [
        Cell(f"{len(done)}{failed}", (str(len(done)), str(len(tried)))),
        Cell.of(str(seeds) if seeds else ""),
    ]


COUNT_HEADS = [Head("images", ("images", "tried")), Head("seeds", ("seeds",))]


def metrics(rows: Sequence[Record], keys: Sequence[str]) -> list[Cell]:
    """Mean and spread of each metric."""
    return [spread(summarise(by_image(rows, key)), COLUMNS[key]) for key in keys]


def spread(found: Summary | None, column: Column) -> Cell:
    """Mean ± standard deviation over images, and that over seeds where there are several."""
    if found is None:
        return Cell("", ("", "", ""))
    text = column.show(found.mean)
    if found.sd is not None:
        text += f" ± {column.show(found.sd)}"
    if found.seed_sd is not None:
        text += f" (seeds ± {column.show(found.seed_sd)})"
    return Cell(text, (repr(found.mean), *("" if each is None else repr(each) for each in (found.sd, found.seed_sd))))


def lowest(rows: Sequence[Record]) -> Cell:
    """The image with the lowest PSNR, by name."""
    known = [(number, image) for (image, _), number in by_image(rows, "final_psnr").items() if math.isfinite(number)]
    if len({image for _, image in known}) < 2:
        return Cell("", ("", ""))
    number, image = min(known)
    return Cell(f"{image} {COLUMNS['psnr'].show(number)}", (image, repr(number)))


def published(group: Group, registry: Path = PUBLISHED) -> dict[str, list[Published]]:
    """The verified results of others on a group's images, by the name of their line.

    A number of one image stands only where that image stands alone.
    """
    (data, noise, scale), lines = group.place, defaultdict(list)
    if any(noise):
        return {}
    for row in targets(data, scale, registry):
        if row.image is None and not group.some or row.image and group.images == {row.image}:
            lines[f"published: {row.method} ({row.source})"].append(row)
    return dict(lines)


def order(name: str) -> tuple[int, str]:
    """Methods, then floors, bounds and baselines."""
    return next((place for place, kind in enumerate(BESIDE, 1) if name.startswith(kind)), 0), name


def _beside(name: str) -> bool:
    return name.startswith(BESIDE)
