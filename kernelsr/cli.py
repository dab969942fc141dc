"""The command line: `python run.py` and `kernelsr`. One scenario, one method, one row an image, one report."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Spinning OpenMP threads slow small operations 200-fold where another process keeps a core busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Hydra passes errors on, and main() says them in the user's words.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, OmegaConfBaseException

from kernelsr.paths import CONF

if TYPE_CHECKING:
    from kernelsr.data import Case


def run(cfg: DictConfig, folder: Path, method: str, data: str) -> list[str]:
    """Estimate every image of the scenario into ``folder``; returns what failed, a line an image.

    Args:
        method, data: what the configuration calls them, for the rows and the report.

    Raises:
        ValueError, FileNotFoundError: the scenario or a setting cannot be used.
        OSError: the folder cannot be written.
    """
    from kernelsr import report, results
    from kernelsr.configure import device_of, scenario_of

    device_of(cfg.device)
    if not isinstance(cfg.seed, int):
        raise ValueError(f"seed is {cfg.seed!r}; it must be an integer")
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
            # What an image, a network or its memory can do wrong; a full disk (OSError) ends the whole run.
            except (ValueError, RuntimeError, MemoryError) as error:
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
    for floor in metrics.floors(problem, truth, border=cfg.scale):
        results.append_row(folder / "floors.csv", {"image": case.name, "scale": cfg.scale, **floor})
    return metrics.score(estimate, problem, truth, border=cfg.scale) | cost


def _settings(cfg: DictConfig) -> dict[str, str]:
    """Every setting as one flat table, and the versions that made the numbers."""
    import torch

    import kernelsr

    flat: dict[str, str] = {}

    def collect(node: Any, path: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                collect(value, f"{path}.{key}" if path else str(key))
        elif not path.endswith("_partial_"):
            flat[path] = str(node)

    collect(OmegaConf.to_container(cfg, resolve=True), "")
    versions = {"kernelsr": kernelsr.__version__, "torch": torch.__version__, "threads": str(torch.get_num_threads())}
    return {**flat, **versions}


def _explained(error: BaseException) -> str:
    """An error of the configuration with its cause, and the choices where a key is unknown."""
    # Where Hydra looked for its files is of no use to who mistyped a name.
    said = str(error).partition("\nConfig search path:")[0]
    cause = error.__cause__
    if isinstance(cause, ConfigAttributeError) and isinstance(cause.parent_node, DictConfig):
        choices = ", ".join(str(key) for key in cause.parent_node if not str(key).startswith("_"))
        return f"{said.splitlines()[0]} There is no such setting; choose one of {choices}."
    return f"{said}\n{cause}" if cause else said


def main() -> None:
    """Entry point; exit code 1 where anything failed, 130 where it was interrupted."""
    failures: list[str] = []

    @hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
    def job(cfg: DictConfig) -> None:
        runtime = HydraConfig.get().runtime
        chosen = runtime.choices
        try:
            method = f"{chosen['prior']}+{chosen['restorer']}"
            failures.extend(run(cfg, Path(runtime.output_dir), method, chosen["data"]))
        except (ValueError, FileNotFoundError) as error:
            # The next job of a sweep goes on.
            failures.append(str(error))
            print(f"kernelsr: {error}", file=sys.stderr)

    run_job: Callable[[], None] = job
    try:
        run_job()
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"kernelsr: {_explained(error)}")
    except OSError as error:
        sys.exit(f"kernelsr: cannot write the results: {error}; choose another folder with hydra.run.dir=FOLDER")
    except KeyboardInterrupt:
        print("kernelsr: interrupted; the images done so far are in the report", file=sys.stderr)
        sys.exit(130)
    if failures:
        print(f"kernelsr: {len(failures)} failed", file=sys.stderr)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
