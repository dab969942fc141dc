"""A run: every image of a scenario estimated by one method, into a folder of rows, pictures and one report.

What is computed is kept as cells (see ``cells``), so that no run computes again what an earlier one has finished.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from omegaconf import DictConfig, OmegaConf

from kernelsr import metrics, report, results
from kernelsr.abreast import Lanes, lanes_of
from kernelsr.cells import Cells, code, code_of, key_of
from kernelsr.configure import SettingsError, device_of, reference_images, scenario_of, scoring_of, solve
from kernelsr.data import Case
from kernelsr.flags import flags_of
from kernelsr.images import image_size
from kernelsr.jobs import Job
from kernelsr.learner import BUILDING
from kernelsr.memory import keep_freed_memory
from kernelsr.meter import Meter
from kernelsr.ncnn_models import available
from kernelsr.problem import Problem, Progress, Truth
from kernelsr.progress import Overall, Recorder, bars
from kernelsr.restorers.realesrgan import CARRIER
from kernelsr.results import Row
from kernelsr.track import tracker

NUMBERLESS = ("progress", "track", "resume", "cells", "shard", "batch")
"""Settings that change nothing of what a command makes."""
OUTSIDE = (*NUMBERLESS, "references", "data.only", "data.folder", "device", "protocol")
"""Settings that a cell's key leaves out: they change no estimate, or the key has what they stand for (a protocol's are in
data and scoring) or the image's file, the kind of device."""


def run(cfg: DictConfig, folder: Path, job: Job, version: str) -> list[str]:
    """Estimate every image of the scenario into ``folder``; returns what failed, a line an image.

    Raises:
        ValueError, FileNotFoundError: the scenario or a setting cannot be used.
        OSError: the folder cannot be written.
    """
    # TF32 has ten bits of mantissa where the methods, and their numbers on a CPU, have float32's 23.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = bool(cfg.tf32)
    keep_freed_memory()
    device = device_of(cfg.device)
    tracker(cfg.track)
    if not isinstance(cfg.cells, str) or not cfg.cells:
        raise ValueError(f"cells is {cfg.cells!r}; it is the folder where finished images are kept")
    for name, value in (("seed", cfg.seed), ("solver.steps", cfg.solver.steps)):
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} is {value!r}; it must be a non-negative integer")
    cases = list(scenario_of(cfg))
    scoring_of(cfg)  # what is wrong there is so for every image
    job.images = [case.name for case in cases]
    job.settings = _flat(cfg) | {"version": version, "threads": str(torch.get_num_threads())}
    part, parts = shard(cfg.shard)
    # Told from the job's names and not from its number, so that the shards may be jobs of one sweep: shard=1/4,2/4,3/4,4/4.
    first = crc32(f"{job.data} {job.method} {cfg.scale} {cfg.seed}".encode())
    mine = [case for index, case in enumerate(cases) if (first + index) % parts == part]
    job.share = len(mine)
    job.save(folder)
    date = time.strftime("%Y-%m-%d %H:%M:%S")
    made = {"command": job.command, "version": version, "machine": machine(device), "date": date}
    channels = cfg.restorer.get("channels", 0)
    lanes = lanes_of(cfg.batch, device, pixels=lambda: max(map(_hr_pixels, mine), default=0), channels=channels)
    worker = _Worker(cfg, folder, job, made, Overall(folder, len(mine), lanes.count), lanes)
    try:
        # Cells that another process has in work, and images for which there was no memory beside others, are left for the end.
        taken = lanes.each(lambda case: worker.take(case, wait=False), mine)
        left = [case for case, done in zip(mine, taken, strict=True) if not done]
        if busy := [case.name for case in left if case.name not in worker.large]:
            print(f"waiting for what another process computes: {', '.join(busy)}", file=sys.stderr)
        for case in left:
            worker.take(case, wait=True)
        job.finished = True
        job.save(folder)
    finally:
        show(folder, job)
    if worker.found and cfg.progress:
        print(f"{worker.found} of {len(mine)} images were finished before; resume=false computes them anew")
    if worker.elsewhere:
        made_by = "; ".join(sorted(worker.elsewhere))
        print(
            f"some of the images that were finished before were so by another machine, or with another number of threads "
            f"({made_by}; here {made['machine']}): their last digits may be others. "
            "resume=false, or another cells=FOLDER, computes them here",
            file=sys.stderr,
        )
    return worker.failures


@dataclass
class _Worker:
    """Takes the images of a run one by one: computed, or found among the finished cells."""

    cfg: DictConfig
    folder: Path
    job: Job
    made: Row
    overall: Overall
    lanes: Lanes
    failures: list[str] = field(default_factory=list)
    found: int = 0
    elsewhere: set[str] = field(
        default_factory=set
    )  # the machines of cells that were found, where they are not this one

    large: list[str] = field(default_factory=list)
    telling: Any = field(default_factory=threading.Lock)

    def take(self, case: Case, *, wait: bool) -> bool:
        """Row and files of one image into the run's folder; False where another process has it in work.

        Without ``wait`` also where its memory does not suffice beside that of the images of other lanes.
        """
        cells = Cells(self.cfg.cells, resume=self.cfg.resume)
        names: Row = {"image": case.name, "data": self.job.data, "method": self.job.method}
        names |= {"scale": self.cfg.scale, "seed": self.cfg.seed, "command": self.job.command}
        floors: list[Row] = []
        try:
            settings = settings_of(self.cfg)
            with BUILDING:  # the papers' draws are one sequence
                base = [case.source(), code(), code_of(settings)]
            cell = cells.get(
                key_of("estimate", base, settings),
                lambda part: {"row": self.made | self._estimate(case, part)},
                wait=wait,
            )
            if cell is None:
                return False
            # They depend on data, non-blind restorer and what is installed, so that the methods of a sweep share them.
            used = [settings[group] for group in ("data", "scale", "seed", "nonblind", "device", "scoring")]
            key = key_of("references", base, used, self.cfg.references, available(CARRIER))
            beside = cells.get(key, lambda part: _references(self.cfg, case) | {"made": self.made}, wait=True)
            assert beside is not None
            cell.link_into(self.folder / results.safe_name(case.name))
            row = cell.facts["row"] | {"cell": cell.key}
            made = beside.facts.get("made", self.made) | names | {"seed": None, "cell": beside.key}
            floors = [made | floor for floor in beside.facts["rows"]]
            self.found += cell.found
            if row["machine"] != self.made["machine"]:
                self.elsewhere.add(row["machine"])
        except (SettingsError, FileNotFoundError):
            raise  # wrong for every image
        except torch.cuda.OutOfMemoryError as error:
            if not wait and self.lanes.count > 1:
                self.large.append(case.name)
                return False
            row = self._failed(case, error)
        # What an image, a network or its memory can do wrong; a full disk (OSError) ends the whole run.
        except (ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError) as error:
            row = self._failed(case, error)
        with self.telling:  # so that lines count what they say
            results.put_rows(self.folder / "rows.csv", [row | names])
            if floors:
                results.put_rows(self.folder / "floors.csv", floors)
            if self.cfg.progress and not self._bars():
                print(f"{self.overall}: {self.job.method} of {case.name}", file=sys.stderr)
        return True

    def _failed(self, case: Case, error: Exception) -> Row:
        row = self.made | {"error": " ".join(str(error).split()) or type(error).__name__}
        self.failures.append(f"{case.name}: {row['error']}")
        print(f"skipped {self.failures[-1]}", file=sys.stderr)
        return row

    def _bars(self) -> bool:
        return bars() and self.lanes.count == 1

    def _estimate(self, case: Case, part: Path) -> Row:
        """Estimate one image, save it into ``part`` and score it; the numbers of its row."""
        cfg = self.cfg
        problem, truth = _loaded(case)
        meter = Meter(device_of(cfg.device))
        label = f"{self.overall} | {case.name}" if cfg.progress else case.name
        with (
            tracker(cfg.track)(self.folder / "tensorboard" / results.safe_name(case.name)) as track,
            Recorder(cfg.solver.steps, truth, label, shown=cfg.progress and self._bars(), track=track.row) as recorder,
        ):

            def on_step(progress: Progress) -> None:
                self.lanes.check()
                recorder(progress)

            estimate = solve(cfg, problem, case.name, on_step, on_built=meter.count)
            track.estimate(estimate)
        cost = meter.read()
        self.overall.seconds.append(cost["seconds"])
        results.save_estimate(part, estimate, problem, truth, recorder.trace)
        flags = " ".join(flags_of(estimate, problem, truth, recorder.trace))
        return metrics.score(estimate, problem, truth, scoring_of(cfg)) | cost | {"flags": flags}


def _references(cfg: DictConfig, case: Case) -> dict[str, Any]:
    """The floors, and what the image could be: by the true kernel and a non-blind restorer, by networks without a kernel."""
    problem, truth = _loaded(case)
    rows: list[Row] = [*metrics.floors(problem, truth, scoring_of(cfg))]
    if truth.hr is not None and cfg.references:
        for label, image, suffix in reference_images(cfg, problem, truth.kernel, case.name):
            rows.append({"method": label, **metrics.score_image(image.cpu(), truth.hr, scoring_of(cfg), suffix=suffix)})
    return {"rows": rows}


def _loaded(case: Case) -> tuple[Problem, Truth]:
    with BUILDING:  # the papers' draws are one sequence
        return case.load()


def _hr_pixels(case: Case) -> int:
    """No fewer HR pixels than an image has, from its file's head; 0 where it cannot be read."""
    try:
        height, width = image_size(case.path)
    except ValueError:
        return 0
    scenario = case.scenario
    larger = 1 if scenario.degrade else scenario.scale**2
    return min(height * width * larger, (scenario.window or height * width * larger) ** 2)


def settings_of(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as far as it changes numbers, as plain data: what a cell's key is made of beside the image."""
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    for path in OUTSIDE:
        *parents, name = path.split(".")
        node = settings
        for parent in parents:
            node = node.get(parent, {})
        node.pop(name, None)
    return {**settings, "device": device_of(cfg.device).type}


def shard(text: str | None) -> tuple[int, int]:
    """``2/8``, the second of eight machines, as (1, 8): it takes each eighth image of a job.

    Raises:
        ValueError: it is no such share.
    """
    if text is None:
        return 0, 1
    part, slash, parts = str(text).partition("/")
    if not (slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise SettingsError(f"shard is {text!r}; write the number of this machine and of all, as in shard=2/8")
    return int(part) - 1, int(parts)


def machine(device: torch.device) -> str:
    """What computed: the processor's kind and cores, the threads in use, and the GPU where one is."""
    words = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name(device)}, {words}" if device.type == "cuda" else words


def show(folder: Path, job: Job, *, quiet: bool = False) -> None:
    """The run's report, and its table on the terminal, in the order of its images; nothing where there are no rows."""
    order = {name: place for place, name in enumerate(job.images)}

    def read(name: str) -> list[Row]:
        path = folder / name
        rows = results.read_rows(path) if path.is_file() else []
        return sorted(rows, key=lambda row: order.get(row["image"], len(order)))

    rows, floors = read("rows.csv"), read("floors.csv")
    if not rows:
        return
    title = f"{job.method}, x{rows[0]['scale']}, {job.data}"
    path = report.write_report(folder, title=title, settings=job.settings)
    if not quiet:
        print(f"{report.terminal_table(rows, floors)}\nreport: {path}")


def _flat(cfg: DictConfig) -> dict[str, str]:
    """Every setting as one flat table."""
    flat: dict[str, str] = {}

    def collect(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                collect(value, f"{path}.{key}" if path else str(key))
        elif not path.endswith("_partial_"):
            flat[path] = str(node)

    collect(OmegaConf.to_container(cfg, resolve=True), "")
    return flat
