"""What a run does with one of its images: computes it or finds it among the finished cells, and puts down rows and files."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kernelsr import metrics, results
from kernelsr.abreast import Lanes
from kernelsr.cells import Cells, code, code_of, key_of
from kernelsr.configure import SettingsError, device_of, reference_images, scoring_of, solve
from kernelsr.data import Case
from kernelsr.flags import flags_of
from kernelsr.jobs import Job
from kernelsr.meter import Meter
from kernelsr.ncnn_models import available
from kernelsr.problem import Progress
from kernelsr.progress import Overall, Recorder, bars
from kernelsr.restorers.realesrgan import CARRIER
from kernelsr.results import Row
from kernelsr.track import tracker

NUMBERLESS = ("progress", "track", "resume", "cells", "shard", "batch", "threads")
"""Settings that change nothing of what a command makes."""
OUTSIDE = (*NUMBERLESS, "references", "data.only", "data.folder", "device", "protocol")
"""Settings that a cell's key leaves out: they change no estimate, or the key has what they stand for (a protocol's are in
data and scoring) or the image's file, the kind of device."""


@dataclass
class Worker:
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
    alone: list[str] = field(default_factory=list)  # images to be made once more, with no others beside them
    telling: Any = field(default_factory=threading.Lock)

    def take(self, case: Case, *, wait: bool) -> bool:
        """Row and files of one image into the run's folder; False where another process has it in work.

        Without ``wait`` also where a GPU fails at it beside the images of other lanes.
        """
        cells = Cells(self.cfg.cells, resume=self.cfg.resume)
        names: Row = {"image": case.name, "data": self.job.data, "method": self.job.method}
        names |= {"scale": self.cfg.scale, "seed": self.cfg.seed, "command": self.job.command}
        floors: list[Row] = []
        try:
            settings = settings_of(self.cfg)
            base = [case.source(), code(), code_of(settings)]
            cell = cells.get(
                key_of("estimate", base, settings),
                lambda part: {"row": self.made | self._estimate(case, part)},
                wait=wait,
            )
            if cell is None:
                return False
            # They depend on data, non-blind restorer and what is installed, so that the methods of a sweep share them.
            used = [settings[name] for name in ("data", "scale", "seed", "nonblind", "device", "tf32", "scoring")]
            key = key_of("references", base, used, self.cfg.references, available(CARRIER))
            beside = cells.get(key, lambda part: _references(self.cfg, case) | {"made": self.made}, wait=True)
            assert beside is not None
            cell.link_into(self.folder / results.safe_name(case.name))
            row = cell.facts["row"] | {"cell": cell.key}
            made = beside.facts.get("made", self.made) | names | {"seed": None, "cell": beside.key}
            floors = [made | floor for floor in beside.facts["rows"]]
            with self.telling:
                self.found += cell.found
            if row["machine"] != self.made["machine"]:
                self.elsewhere.add(row["machine"])
        except (SettingsError, FileNotFoundError):
            raise  # wrong for every image
        # What an image, a network or its memory can do wrong; a full disk (OSError) ends the whole run.
        except (ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError) as error:
            # A GPU may have no memory for an image beside others, or a library there may not bear company.
            if isinstance(error, RuntimeError) and not wait and self.lanes.crowded:
                self.alone.append(case.name)
                return False
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
        problem, truth = case.load()
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
    problem, truth = case.load()
    rows: list[Row] = [*metrics.floors(problem, truth, scoring_of(cfg))]
    if truth.hr is not None and cfg.references:
        for label, image, suffix in reference_images(cfg, problem, truth.kernel, case.name):
            rows.append({"method": label, **metrics.score_image(image.cpu(), truth.hr, scoring_of(cfg), suffix=suffix)})
    return {"rows": rows}


def settings_of(cfg: DictConfig) -> dict[str, Any]:
    """The configuration as far as it changes numbers, as plain data: what a cell's key is made of beside the image."""
    settings: Any = OmegaConf.to_container(cfg, resolve=True)
    for path in OUTSIDE:
        *parents, name = path.split(".")
        node = settings
        for parent in parents:
            node = node.get(parent, {})
        node.pop(name, None)
    device = device_of(cfg.device).type
    return {**settings, "device": device, "tf32": cfg.tf32 and device == "cuda"}
