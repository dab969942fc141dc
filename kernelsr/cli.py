"""The command line: `python run.py` and `kernelsr`. One scenario, one method, one row an image, one report."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Spinning OpenMP threads slow small operations by orders of magnitude where another process keeps a core busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Hydra passes errors on, and main() says them in the user's words.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kernelsr.paths import CONF

if TYPE_CHECKING:
    from kernelsr.data import Case
    from kernelsr.problem import Problem, Truth


def run(cfg: DictConfig, folder: Path, method: str, data: str) -> list[str]:
    """Estimate every image of the scenario into ``folder``; returns what failed, a line an image.

    Args:
        method, data: what the configuration calls them, for the rows and the report.

    Raises:
        ValueError, FileNotFoundError: the scenario or a setting cannot be used.
        OSError: the folder cannot be written.
    """
    import torch

    from kernelsr import report, results
    from kernelsr.configure import SettingsError, device_of, scenario_of

    # TF32 has ten bits of mantissa where the methods, and their numbers on a CPU, have float32's 23.
    torch.backends.cudnn.allow_tf32 = False
    device_of(cfg.device)
    for name, value in (("seed", cfg.seed), ("solver.steps", cfg.solver.steps)):
        if not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} is {value!r}; it must be a non-negative integer")
    results.write_text_atomically(folder / "version.txt", version() + "\n")
    scenario = scenario_of(cfg)
    cases = list(scenario)
    width = max(len(case.name) for case in cases)
    failures: list[str] = []
    try:
        for number, case in enumerate(cases, 1):
            label = f"{number}/{len(cases)} {case.name:{width}}"
            row: dict[str, Any] = {"image": case.name, "method": method, "scale": cfg.scale, "seed": cfg.seed}
            try:
                row |= _one(cfg, case, folder, label)
            except (SettingsError, FileNotFoundError):
                raise  # wrong for every image
            # What an image, a network or its memory can do wrong; a full disk (OSError) ends the whole run.
            except (ValueError, ArithmeticError, LookupError, RuntimeError, MemoryError) as error:
                row["error"] = " ".join(str(error).split()) or type(error).__name__
                failures.append(f"{case.name}: {row['error']}")
                print(f"skipped {failures[-1]}", file=sys.stderr)
            results.append_row(folder / "rows.csv", row)
    finally:
        if (folder / "rows.csv").is_file():
            rows = results.read_rows(folder / "rows.csv")
            floors = results.read_rows(folder / "floors.csv") if (folder / "floors.csv").is_file() else []
            print(report.terminal_table(rows, floors))
            title = f"{method}, x{cfg.scale}, {data}"
            print("report:", report.write_report(folder, title=title, settings=_settings(cfg)))
    return failures


def _one(cfg: DictConfig, case: Case, folder: Path, label: str) -> dict[str, Any]:
    """Estimate, save and score one image; the numbers of its row."""
    from kernelsr import metrics, results
    from kernelsr.configure import device_of, solve
    from kernelsr.meter import Meter
    from kernelsr.progress import Recorder

    problem, truth = case.load()
    meter = Meter(device_of(cfg.device))
    with Recorder(cfg.solver.steps, truth, label, shown=cfg.progress) as recorder:
        estimate = solve(cfg, problem, case.name, recorder)
    cost = meter.read()
    results.save_estimate(folder / results.safe_name(case.name), estimate, problem, truth, recorder.trace)
    for reference in metrics.floors(problem, truth, border=cfg.scale) + _bounds(cfg, problem, truth, case.name):
        results.append_row(folder / "floors.csv", {"image": case.name, "scale": cfg.scale, **reference})
    return metrics.score(estimate, problem, truth, border=cfg.scale) | cost


def _bounds(cfg: DictConfig, problem: Problem, truth: Truth, name: str) -> list[dict[str, str | float]]:
    """What the image could be: the rows of the true kernel with the non-blind restorer, and of networks that ask for none."""
    from kernelsr import metrics
    from kernelsr.configure import reference_images

    if truth.hr is None or not cfg.references:
        return []
    images = reference_images(cfg, problem, truth.kernel, name)
    return [
        {"method": label, **metrics.score_image(image.cpu(), truth.hr, border=cfg.scale, suffix=suffix)}
        for label, image, suffix in images
    ]


TOLD = ("data", "prior", "restorer", "nonblind", "start", "solver", "experiment", "scale", "seed")
"""What a line of a sweep's table says, or is the mean over."""


@dataclass(frozen=True)
class Job:
    """One job of a sweep: what its data set and method are called, the words of its command, its folder."""

    data: str
    method: str
    words: list[str]
    folder: Path


def method_name(choices: Mapping[str, Any]) -> str:
    """What the rows call a method: the experiment, otherwise the parts; then the non-blind restorer. As in kernelgan+zssr."""
    words = [choices["experiment"]] if choices["experiment"] else [choices["prior"], choices["restorer"]]
    if choices["start"] != "own":
        words[0] += f"@{choices['start']}"
    words += [choices["nonblind"]]
    name = "+".join(str(word) for word in words if word != "none")
    return name if choices["experiment"] or choices["solver"] == "joint" else f"{name} {choices['solver']}"


def _show_sweep(jobs: list[Job]) -> None:
    """All jobs of a sweep in one table, on the terminal and beside their folders."""
    from kernelsr import report, results

    def read(path: Path) -> list[results.Row]:
        return results.read_rows(path) if path.is_file() else []

    common = set.intersection(*(set(job.words) for job in jobs))
    runs = []
    for job in jobs:
        # What its names do not tell apart, the settings do that vary in the sweep.
        varying = [word for word in job.words if word not in common and word.partition("=")[0] not in TOLD]
        data = " ".join([job.data, *(word for word in varying if word.startswith("data."))])
        method = " ".join([job.method, *(word for word in varying if not word.startswith("data."))])
        runs.append(
            (data, [row | {"method": method} for row in read(job.folder / "rows.csv")], read(job.folder / "floors.csv"))
        )
    table = report.sweep_table(runs)
    path = jobs[0].folder.parent / "table.txt"
    results.write_text_atomically(path, table + "\n")
    print(f"{table}\ntable: {path}")


def _settings(cfg: DictConfig) -> dict[str, str]:
    """Every setting as one flat table, and the versions that made the numbers."""
    import torch

    flat: dict[str, str] = {}

    def collect(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                collect(value, f"{path}.{key}" if path else str(key))
        elif not path.endswith("_partial_"):
            flat[path] = str(node)

    collect(OmegaConf.to_container(cfg, resolve=True), "")
    return {**flat, "version": version(), "threads": str(torch.get_num_threads())}


def version() -> str:
    """What made the numbers: the versions, and the commit where this is a checkout (+ where it was changed)."""
    import torch

    import kernelsr

    commit = ""
    # An installed package may lie in a virtual environment inside somebody else's repository.
    if CONF.parent != Path(__file__).parent:
        git = ["git", "-C", str(CONF.parent), "describe", "--always", "--dirty=+"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            commit = subprocess.run(git, capture_output=True, text=True, timeout=10).stdout.strip()
    return f"kernelsr {kernelsr.__version__} {commit or 'installed'}, torch {torch.__version__}"


def main() -> None:
    """Entry point; exit code 1 where anything failed, 130 where it was interrupted."""
    failures: list[str] = []
    finished: list[Job] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(cfg: DictConfig) -> None:
        runtime = HydraConfig.get().runtime
        chosen = runtime.choices
        try:
            folder = Path(runtime.output_dir)
            method, words = method_name(chosen), list(HydraConfig.get().overrides.task)
            finished.append(Job(chosen["data"], method, words, folder))
            failures.extend(run(cfg, folder, method, chosen["data"]))
        except (ValueError, FileNotFoundError) as error:
            # The next job of a sweep goes on.
            failures.append(str(error))
            print(f"kernelsr: {error}", file=sys.stderr)

    run_job: Callable[[], None] = job
    try:
        run_job()
    except (HydraException, OmegaConfBaseException) as error:
        from kernelsr.configure import explained

        sys.exit(f"kernelsr: {explained(error)}")
    except OSError as error:
        sys.exit(f"kernelsr: cannot write the results: {error}; choose another folder with hydra.run.dir=FOLDER")
    except KeyboardInterrupt:
        print("kernelsr: interrupted; the images done so far are in the report", file=sys.stderr)
        sys.exit(130)
    if len(finished) > 1:
        _show_sweep(finished)
    if failures:
        print(f"kernelsr: {len(failures)} failed", file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
