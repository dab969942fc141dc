"""A run: every image of a scenario estimated by one method, into a folder of rows, pictures and one report.

What is computed is kept as cells (see ``cells``), so that no run computes again what an earlier one has finished.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from omegaconf import DictConfig, OmegaConf

from kernelsr import report, results
from kernelsr.abreast import lanes_of
from kernelsr.configure import SettingsError, device_of, scenario_of, scoring_of
from kernelsr.jobs import Job
from kernelsr.memory import keep_freed_memory
from kernelsr.progress import Overall
from kernelsr.results import Row
from kernelsr.threads import threads_of
from kernelsr.track import tracker
from kernelsr.worker import Worker


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
    if not isinstance(cfg.cells, str) or not cfg.cells or Path(cfg.cells).is_file():
        raise ValueError(f"cells is {cfg.cells!r}; it is the folder where finished images are kept")
    for name, value in (("seed", cfg.seed), ("solver.steps", cfg.solver.steps)):
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} is {value!r}; it must be a non-negative integer")
    for name in ("resume", "references", "progress", "tf32"):
        if not isinstance(cfg[name], bool):
            raise ValueError(f"{name} is {cfg[name]!r}; it is true or false")
    threads_of(cfg.threads)
    cases = list(scenario_of(cfg))
    scoring_of(cfg)  # what is wrong there is so for every image
    job.images = [case.name for case in cases]
    job.settings = _flat(cfg) | {"version": version, "threads": str(cfg.threads or torch.get_num_threads())}
    part, parts = shard(cfg.shard)
    # Told from the job's names and not from its number, so that the shards may be jobs of one sweep: shard=1/4,2/4,3/4,4/4.
    first = crc32(f"{job.data} {job.method} {cfg.scale} {cfg.seed}".encode())
    mine = [case for index, case in enumerate(cases) if (first + index) % parts == part]
    job.share = len(mine)
    job.save(folder)
    date = time.strftime("%Y-%m-%d %H:%M:%S")
    made = {"command": job.command, "version": version, "machine": machine(device), "date": date}
    channels = cfg.restorer.get("channels", 0)
    lanes = lanes_of(
        cfg.batch, device, pixels=lambda: max((case.pixels() for case in mine), default=0), channels=channels
    )
    worker = Worker(cfg, folder, job, made, Overall(folder, len(mine), lanes.count), lanes)
    try:
        # Cells that another process has in work, and images that failed beside others on a GPU, are left for the end.
        taken = lanes.each(lambda case: worker.take(case, wait=False), mine)
        left = [case for case, done in zip(mine, taken, strict=True) if not done]
        if busy := [case.name for case in left if case.name not in worker.alone]:
            print(f"waiting for what another process computes: {', '.join(busy)}", file=sys.stderr)
        for case in left:
            worker.take(case, wait=True)
        job.finished = True
        job.save(folder)
    finally:
        show(folder, job)
    if worker.found and cfg.progress:
        anew = "computes them anew" + (f", with their curves for {cfg.track}" if cfg.track else "")
        print(f"{worker.found} of {len(mine)} images were finished before; resume=false {anew}")
    if worker.elsewhere:
        made_by = "; ".join(sorted(worker.elsewhere))
        print(
            f"some of the images that were finished before were so by another machine, or with another number of threads "
            f"({made_by}; here {made['machine']}): their last digits may be others. "
            "resume=false, or another cells=FOLDER, computes them here",
            file=sys.stderr,
        )
    return worker.failures


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
