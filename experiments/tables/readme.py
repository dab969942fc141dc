"""README's results, between two markers, from the rows in experiments/results: `python -m experiments.make_tables --readme`.

Nothing between the markers is typed by hand. A table without rows is left out, so new rows need no change here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.tables import speed
from experiments.tables.differences import differences
from experiments.tables.kinds import ablation, image_table, robustness, without_empty
from experiments.tables.layout import Cell, Head, Table, markdown
from experiments.tables.lines import Group, groups_of, heads, metrics, order
from experiments.tables.notes import MADE, notes, place_of
from experiments.tables.records import BESIDE, Record, read
from kernelsr.files import write_text_atomically

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "experiments" / "results"
README = ROOT / "README.md"
BEGIN = "<!-- tables: begin; python -m experiments.make_tables --readme writes what follows -->"
END = "<!-- tables: end -->"
SCALES = (2, 3, 4)
AGAINST = ("spectral+wiener+usrnet direct", "spectral+wiener direct", "fkp+dip")
"""What the others are compared with: the first of these that has rows."""


def section(records: Sequence[Record]) -> str:
    """Everything between the markers."""
    clean = [row for row in records if not any(row.noise)]
    set5 = {
        family: [row for row in clean if row.data == f"set5_{family}" and row.scale in SCALES]
        for family in ("aniso", "motion")
    }
    whole = {family: _methods_on_all_images(rows) for family, rows in set5.items()}
    spectral = [row for row in records if row.method.startswith(("spectral+wiener", *BESIDE)) and row.family == "aniso"]
    x4 = [
        row for row in records if (row.data, row.scale, row.floor) == ("set5_aniso", 4, False) and _compared(row.method)
    ]
    parts = [
        ("Set5, Gaussian kernels", by_scale(whole["aniso"], "variance_error")),
        ("Set5, linear motion", by_scale(whole["motion"], "kernel_psnr")),
        ("Set5, paired differences", _paired(whole["aniso"] + whole["motion"])),
        ("Set5 at x4, with noise", robustness(x4)),
        ("Set5 at x4: prior, dynamic, start", ablation(x4)),
        ("Set5 butterfly at x4, whole schedules beside the authors' code", _alone(set5["aniso"], "butterfly")),
        ("The spectral fit on larger sets, and with noise", over_sets(spectral)),
        ("The four bundled photographs", _demo(clean)),
    ]
    blocks = [
        f"#### {title}\n\n{markdown(_short(table))}" for title, table in parts if table is not None and table.groups
    ]
    return "\n\n".join(blocks)


def _short(table: Table) -> Table:
    """The table without the note on versions and dates, which stand in the rows."""
    return replace(table, notes=[note for note in table.notes if not note.startswith(MADE)])


def by_scale(records: Sequence[Record], beside: str) -> Table | None:
    """A line a method, PSNR and another metric at each scale; methods that were run on all images."""
    groups = groups_of(records)
    scales = [scale for scale in SCALES if any(group.place[2] == scale for group in groups)]
    names = [name for group in groups for name in group.methods]
    names = sorted(set(names), key=order)
    lines = []
    for name in names:
        cells = [Cell.of(name)]
        for scale in scales:
            rows = [row for group in groups if group.place[2] == scale for row in group.methods.get(name, [])]
            cells += metrics(rows, ("final_psnr", beside))
        lines.append(cells)
    columns = [Head("method", ("method",), False)]
    columns += [
        Head(f"x{scale}, {head.title}", head.names) for scale in scales for head in heads(("final_psnr", beside))
    ]
    if not groups:
        return None
    return without_empty(Table("", columns, [lines], [_counted(groups), *notes(groups)]))


def over_sets(records: Sequence[Record]) -> Table | None:
    """The spectral fit and its floors: a line for data, noise and scale."""
    groups = [
        group
        for group in groups_of(records)
        if group.place[2] in SCALES and len(group.images) > 1 and "spectral+wiener direct" in group.methods
    ]
    lines = []
    for group in groups:
        cells = [Cell.of(place_of(group.place)), Cell.of(str(len(group.images)))]
        cells += metrics(group.methods["spectral+wiener direct"], ("final_psnr", "kernel_psnr", "variance_error"))
        cells += metrics(group.methods.get("floor: bicubic, aligned", []), ("final_psnr",))
        cells += metrics(group.methods.get("floor: mean kernel", []), ("variance_error",))
        lines.append(cells)
    columns = [Head("data", ("data",), False), Head("images", ("images",))]
    columns += heads(("final_psnr", "kernel_psnr", "variance_error"))
    columns += [Head("bicubic, aligned: PSNR", ("bicubic",)), Head("mean kernel: variance error, %", ("mean",))]
    return (
        Table("", columns, [lines], ["prior=spectral with its Wiener image; what is beside it are the floors"])
        if lines
        else None
    )


def _methods_on_all_images(records: Sequence[Record]) -> list[Record]:
    """The rows of methods that were run on all images of the set, and the floors.

    Of a prior that was run with its usual settings too, other settings are left to the whole tables.
    """
    names = {(group.place, name) for group in groups_of(records) if not group.some for name in group.methods}
    usual = {_prior(name) for _, name in names if "=" not in name}
    names = {(place, name) for place, name in names if "=" not in name or _prior(name) not in usual}
    return [row for row in records if ((row.data, row.noise, row.scale), row.method) in names]


def _compared(method: str) -> bool:
    """Whether it is one of the methods that the ablation compares: with USRNet, and with no setting but DKP's base."""
    name, *settings = method.split(" ")
    return "+usrnet" in name and all(word == "direct" or word.startswith("prior@prior.base=") for word in settings)


def _prior(method: str) -> str:
    """The first part of a method's name: its prior or its experiment, wherever it starts."""
    return method.split("+")[0].split()[0].split("@")[0]


def _counted(groups: Sequence[Group]) -> str:
    """How many images and seeds are behind the means."""
    methods = [rows for group in groups for name, rows in group.methods.items() if not name.startswith(BESIDE)]
    images = sorted({len(group.images) for group in groups})
    seeds = sorted({len({row.seed for row in rows}) for rows in methods})
    return f"means over {_several(images)} images and {_several(seeds)} seed{'' if seeds == [1] else 's'}"


def _several(numbers: Sequence[int]) -> str:
    return " or ".join(map(str, numbers))


def _paired(records: Sequence[Record]) -> Table | None:
    known = {row.method for row in records if not row.error}
    against = next((method for method in AGAINST if method in known), None)
    return None if against is None else differences(records, against, "")


def _alone(records: Sequence[Record], image: str) -> Table | None:
    """Methods that were run on one image alone, at x4, with the targets of that image."""
    groups = [group for group in groups_of(records) if group.images == {image} and group.place[2] == 4]
    names = {name for group in groups for name in group.methods}
    rows = [row for row in records if row.image == image and row.scale == 4 and row.method in names]
    return image_table("", rows) if rows else None


def _demo(records: Sequence[Record]) -> Table | None:
    rows = [row for row in records if row.data == "demo_aniso" and (row.method == "dkp+dip" or row.floor)]
    return image_table("", rows) if any(not row.floor for row in rows) else None


def replaced(readme: str, text: str, begin: str = BEGIN, end: str = END) -> str:
    """README with other text between two markers.

    Raises:
        ValueError: it has not both markers.
    """
    before, found, rest = readme.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"README.md has no place for the tables; write the lines {begin} and {end} where they belong")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def generated(readme: str, results: Path = RESULTS) -> tuple[str, list[str]]:
    """README as it ought to be, and what there is to say about the rows."""
    records, said = read([results])
    text = replaced(readme, section(records))
    if (results / speed.FILE).is_file():
        text = replaced(text, speed.speed(results), speed.BEGIN, speed.END)
    return text, said


def rewrite(readme: Path = README, results: Path = RESULTS) -> list[str]:
    """Write README anew; returns what there is to say about the rows."""
    text, said = generated(readme.read_text(encoding="utf-8"), results)
    write_text_atomically(readme, text)
    return said
