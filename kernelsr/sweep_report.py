"""A sweep for its reader: one self-contained HTML page over all of its jobs, made from their files alone."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from kernelsr.charts import Chart, scatter_chart
from kernelsr.files import write_text_atomically
from kernelsr.metrics import FLOORS
from kernelsr.pages import best_shown, date_of, flag_words, render, script
from kernelsr.results import METRICS, Row
from kernelsr.statistics import summarise
from kernelsr.sweep_cards import Place, cards, final
from kernelsr.sweep_files import SweepJob, read_sweep
from kernelsr.tables import columns_known, known

MOST_LISTED = 200  # rows of flagged or failed images
MOST_LABELS = 1500  # points of a scatter plot from which on they lose their labels


@dataclass
class Line:
    """A line of the overview: by metric mean, standard deviation and number of values; flags, failures, and its jobs."""

    data: str
    scale: int | None
    method: str
    floor: bool
    images: int
    values: dict[str, float | None]
    spreads: dict[str, float | None]
    counts: dict[str, int]
    flags: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    jobs: list[SweepJob] = field(default_factory=list)
    best: dict[str, str] = field(default_factory=dict)


def write_sweep_report(folder: str | os.PathLike[str]) -> Path:
    """Rebuild report.html of a sweep from its folder alone: one page that needs no network and no other file.

    Args:
        folder: a sweep's output folder, in which every job has a folder of its own. What is missing or damaged in it is said
            on the page.

    Returns:
        The path of the page.

    Raises:
        FileNotFoundError: there is no job in the folder.
        OSError: the page cannot be written.
    """
    folder = Path(folder)
    jobs = read_sweep(folder) if folder.is_dir() else []
    if not jobs:
        raise FileNotFoundError(f"{folder} holds no jobs; give the output folder of a sweep")
    rows = _rows(jobs)
    done = [row for row in rows if not row["error"]]
    methods = list(dict.fromkeys(job.method for job in jobs if job.method))
    data = list(dict.fromkeys(job.data for job in jobs if job.data))
    styles = {method: number for number, method in enumerate(methods)}
    places = _places(rows, jobs)
    pictured = cards(places, styles)
    noted = [row for row in rows if row["error"] or row["flags"]]
    page = render(
        "sweep.html.j2",
        title=f"{_counted(methods, 'method')} on {_counted(data, 'data set')}",
        date=date_of(folder, [job.folder / "rows.csv" for job in jobs]),
        jobs=jobs,
        links={job.folder.name: _link(job) for job in jobs},
        methods=methods,
        styles=styles,
        data=data,
        scales=sorted({row["scale"] for row in rows if row["scale"] is not None}),
        seeds=sorted({row["seed"] for row in rows if row["seed"] is not None}),
        rows=rows,
        done=done,
        failed=len(rows) - len(done),
        left=sum(len(job.left) for job in jobs),
        lines=_lines(places),
        # A method without an image of its own still has bicubic's beside it.
        shown=columns_known([*done, *(row for place in places for row in place.floors)]),
        flagged_words=flag_words(done),
        noted=noted[:MOST_LISTED],
        more_noted=max(0, len(noted) - MOST_LISTED),
        scatters=_scatters(places, styles),
        cards=pictured,
        places=places,
        images=len({(row["data"], row["scale"], row["image"]) for row in done}),
        **script("sort.js"),
    )
    path = folder / "report.html"
    write_text_atomically(path, page)
    return path


def _rows(jobs: Sequence[SweepJob]) -> list[Row]:
    """The rows of all jobs; of an estimate that two jobs of one command have, the later one, or the one that did not fail."""
    rows: dict[tuple[Any, ...], Row] = {}
    for job in jobs:
        for row in job.rows:
            key = (job.command or id(job), row["image"], row["scale"], row["seed"])
            if key not in rows or not row["error"]:
                rows[key] = row | {"job": job}
    return list(rows.values())


def _counted(names: Sequence[str], word: str) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} {word}s"


def _link(job: SweepJob) -> str:
    """The address of a job's own page, from the sweep's; empty where there is none."""
    name = quote(os.fsencode(job.folder.name))
    return f"./{name}/report.html" if (job.folder / "report.html").is_file() else ""


def _places(rows: Sequence[Row], jobs: Sequence[SweepJob]) -> list[Place]:
    """The rows by data set and scale, in the sweep's order, beside the floors there, each once."""
    keys = dict.fromkeys((row["data"], row["scale"]) for row in rows)
    data = list(dict.fromkeys(job.data for job in jobs))
    floors = [row for job in jobs for row in job.floors if not row["error"]]
    places = []
    for name, scale in sorted(keys, key=lambda key: (data.index(key[0]), key[1] or 0)):
        # Every job of a data set has the same floors; the bounds differ where the non-blind restorer does.
        beside = {(row["image"], row["method"]): row for row in floors if (row["data"], row["scale"]) == (name, scale)}
        mine = [row for row in rows if (row["data"], row["scale"]) == (name, scale)]
        places.append(Place(name, scale, mine, list(beside.values())))
    return places


def _lines(places: Sequence[Place]) -> list[Line]:
    """The overview: by data set and scale a line for each method, then for each floor over the images with a result."""
    lines = []
    for place in places:
        done = [row for row in place.rows if not row["error"]]
        images = {row["image"] for row in done}
        beside = [row for row in place.floors if row["image"] in images]
        own = [_line(place, method, False, place.rows) for method in dict.fromkeys(r["method"] for r in place.rows)]
        best = best_shown([line.values for line in own])
        for line in own:
            line.best = best
        lines += own
        lines += [_line(place, method, True, beside) for method in dict.fromkeys(row["method"] for row in beside)]
    return lines


def _line(place: Place, method: str, floor: bool, rows: Sequence[Row]) -> Line:
    members = [row for row in rows if row["method"] == method]
    done = [row for row in members if not row["error"]]
    seen = {key: {(row["image"], row["seed"]): row[key] for row in done if known(row[key])} for key in METRICS}
    summaries = {key: summarise(values) for key, values in seen.items()}
    return Line(
        place.data,
        place.scale,
        method,
        floor,
        len(done),
        values={key: summary.mean if summary else None for key, summary in summaries.items()},
        spreads={key: summary.sd if summary else None for key, summary in summaries.items()},
        counts={key: len(values) for key, values in seen.items()},
        flags=Counter(flag for row in done for flag in row["flags"].split()),
        failed=len(members) - len(done),
        jobs=[] if floor else list({id(row["job"]): row["job"] for row in members}.values()),
    )


def _scatters(places: Sequence[Place], styles: dict[str, int]) -> list[dict[str, Any]]:
    """For each data set and scale the kernel PSNR against the image PSNR, a point for every image and method."""
    scatters = []
    labelled = sum(len(place.rows) for place in places) <= MOST_LABELS
    for place in places:
        points = []
        for row in place.rows:
            psnr = final(row, "psnr")
            if known(row["kernel_psnr"]) and psnr is not None and known(psnr):
                text = f"{row['image']}, {row['method']}: kernel {row['kernel_psnr']:.2f} dB, image {psnr:.2f} dB"
                points.append((row["kernel_psnr"], psnr, styles[row["method"]], text if labelled else ""))
        floor = [row["kernel_psnr"] for row in place.floors if row["method"] == FLOORS[0] and known(row["kernel_psnr"])]
        chart: Chart | None = scatter_chart(points, across=statistics.fmean(floor) if floor else None)
        if chart is not None:
            scatters.append({"place": place, "chart": chart, "points": len(points)})
    return scatters
