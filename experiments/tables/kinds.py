"""The papers' tables, each from any records: Gaussian, motion, robustness, ablation, kernel accuracy, cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from experiments.tables.layout import Cell, Head, Table
from experiments.tables.lines import (
    COLUMNS,
    COUNT_HEADS,
    Group,
    counts,
    groups_of,
    heads,
    lowest,
    metrics,
    order,
    published,
    value,
)
from experiments.tables.notes import levels_of, notes
from experiments.tables.records import Record

GAUSSIAN = ("aniso", "aniso_released", "aniso_diff_dkp", "iso", "iso8", "div2krk")
MOTION = ("motion", "motion_diff_dkp", "random_motion", "levin")
IMAGE = ("final_psnr", "final_ssim", "psnr", "kernel_psnr", "variance_error")
KERNEL = ("kernel_psnr", "kernel_psnr_shifted", "centroid_error", "variance_error")
COST = ("parameters", "seconds", "peak_memory_mb")
FIRST = (Head("data", ("data",), False), Head("scale", ("scale",)))
NOISE = (Head("kernel noise", ("kernel_noise",)), Head("image noise", ("image_noise",)))
LOWEST = Head("lowest PSNR", ("lowest_image", "lowest_psnr"), False)
METHOD = Head("method", ("method",), False)
EXPERIMENTS = {
    "dip_fkp": "fkp",
    "dip_dkp": "dkp",
    "double_dip": "double_dip",
    "dip_softmax": "softmax",
    "kernelgan": "deep_linear",
    "kernelgan_fkp": "repeated",
    "diff_dkp": "dkp",
}
"""The prior of each experiment."""


def gaussian(records: Sequence[Record]) -> Table:
    return image_table("Gaussian kernels", [row for row in records if row.family in GAUSSIAN and not any(row.noise)])


def motion(records: Sequence[Record]) -> Table:
    return image_table("Motion kernels", [row for row in records if row.family in MOTION and not any(row.noise)])


def other(records: Sequence[Record]) -> Table:
    known = (*GAUSSIAN, *MOTION)
    return image_table("Other kernels", [row for row in records if row.family not in known and not any(row.noise)])


def image_table(title: str, records: Sequence[Record]) -> Table:
    """Sets x scales x methods: images and kernels, with targets where others published some."""
    groups = groups_of(records)
    lines = [
        [
            [*_first(group), Cell.of(name), *counts(rows), *metrics(rows, IMAGE), lowest(rows)]
            for name, rows in _methods(group)
        ]
        + _targets(group)
        for group in groups
    ]
    columns = [*FIRST, METHOD, *COUNT_HEADS, *heads(IMAGE), LOWEST]
    return without_empty(Table(title, columns, lines, notes(groups), repeated=2))


def kernel(records: Sequence[Record]) -> Table:
    """How close the kernels come, floors included."""
    known = [row for row in records if not any(row.noise) and (row.error or any(key in row.values for key in KERNEL))]
    groups = groups_of(known)
    lines = [
        [[*_first(group), Cell.of(name), *counts(rows), *metrics(rows, KERNEL)] for name, rows in _methods(group)]
        for group in groups
    ]
    columns = [*FIRST, METHOD, *COUNT_HEADS, *heads(KERNEL)]
    return without_empty(Table("Accuracy of the kernels", columns, lines, notes(groups), repeated=2))


def cost(records: Sequence[Record]) -> Table:
    """What an image costs; seconds compare on one machine alone."""
    groups = groups_of(row for row in records if not row.floor and not any(row.noise))
    lines = [
        [
            [*_first(group), Cell.of(name), *counts(rows), *metrics(rows, COST), Cell.of(_machines(rows))]
            for name, rows in _methods(group)
        ]
        for group in groups
    ]
    columns = [*FIRST, METHOD, *COUNT_HEADS, *heads(COST), Head("machine", ("machine",), False)]
    return without_empty(Table("Cost of an image", columns, lines, notes(groups), repeated=2))


def robustness(records: Sequence[Record]) -> Table:
    """What noise of the kernel and of the image costs: the noisy rows, and the same methods without noise."""
    noisy = {(row.data, row.scale, row.method) for row in records if any(row.noise)}
    groups = groups_of(row for row in records if (row.data, row.scale, row.method) in noisy)
    blocks: dict[tuple[str, int], list[list[Cell]]] = {}
    for group in groups:
        block = blocks.setdefault((group.label, group.place[2]), [])
        noise = [Cell(level or "none", (level,)) for level in levels_of(group.place[1])]
        for name, rows in _methods(group):
            block.append([*_first(group), Cell.of(name), *noise, *counts(rows), *metrics(rows, IMAGE), lowest(rows)])
    ordered = [sorted(block, key=lambda line: order(line[2].text)) for block in blocks.values()]
    columns = [*FIRST, METHOD, *NOISE, *COUNT_HEADS, *heads(IMAGE), LOWEST]
    return without_empty(Table("Robustness against noise", columns, ordered, notes(groups), repeated=2))


def ablation(records: Sequence[Record]) -> Table:
    """Prior x dynamic x start."""
    groups = groups_of(row for row in records if not row.floor and not any(row.noise))
    lines = []
    for group in groups:
        block = [
            [*_first(group), *map(Cell.of, _parts(rows[0])), Cell.of(name), *counts(rows), *metrics(rows, IMAGE)]
            for name, rows in _methods(group)
        ]
        lines.append(sorted(block, key=lambda line: [cell.text for cell in line]))
    parts = [Head(name, (name,), False) for name in ("prior", "dynamic", "start")]
    columns = [*FIRST, *parts, METHOD, *COUNT_HEADS, *heads(IMAGE)]
    return without_empty(Table("Ablation: prior, dynamic, start", columns, lines, notes(groups), repeated=2))


KINDS: dict[str, Callable[[Sequence[Record]], Table]] = {
    "gaussian": gaussian,
    "motion": motion,
    "other": other,
    "robustness": robustness,
    "ablation": ablation,
    "kernel": kernel,
    "cost": cost,
}


def without_empty(table: Table) -> Table:
    """The table without columns that no line fills."""
    lines = [line for group in table.groups for line in group]
    kept = [place for place in range(len(table.heads)) if any(line[place].text for line in lines)]
    groups = [[[line[place] for place in kept] for line in group] for group in table.groups if group]
    return Table(table.title, [table.heads[place] for place in kept], groups, table.notes, table.repeated)


def _first(group: Group) -> list[Cell]:
    return [Cell.of(group.label), Cell(f"x{group.place[2]}", (str(group.place[2]),))]


def _methods(group: Group) -> Iterable[tuple[str, list[Record]]]:
    return group.methods.items()


def _targets(group: Group) -> list[list[Cell]]:
    """Lines of published results; their spread was not published."""
    lines = []
    for name, rows in published(group).items():
        values = {row.metric: row.value for row in rows}
        cells = []
        for key in IMAGE:
            number = value(values, key)
            cells.append(
                Cell(
                    "" if number is None else COLUMNS[key].show(number),
                    ("" if number is None else repr(number), "", ""),
                )
            )
        lines.append([*_first(group), Cell.of(name), Cell("", ("", "")), Cell.of(""), *cells, Cell("", ("", ""))])
    return lines


def _machines(rows: Iterable[Record]) -> str:
    return "; ".join(sorted({row.made[1] for row in rows if row.made[1]}))


def _parts(row: Record) -> tuple[str, str, str]:
    """Which prior, whether it is dynamic, and where it starts."""
    chosen = row.parts.get("prior", EXPERIMENTS.get(row.parts.get("experiment", ""), "dkp"))
    chosen = chosen.rpartition("/")[2]  # full/fkp is the prior fkp, with a paper's settings
    base = row.parts.get("prior@prior.base")
    dynamic = "yes" if chosen == "dkp" else "no"
    if chosen == "dkp":
        chosen = base or "double_dip"
    elif chosen == "repeated":
        chosen = f"{base or 'fkp'}, repeated"
    return chosen, dynamic, row.parts.get("start", "own")
