"""The engines that run the jobs of a sweep elsewhere (conf/hydra/env): what they miss or report, in the user's words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

EXTRAS = {"joblib": "sweep", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""The launchers and the extra of pyproject.toml that brings each."""
AGAIN = "the same command computes what is missing"


def at_once(settings: Mapping[str, Any], jobs: int) -> int:
    """How many of a sweep's jobs run at a time, by the settings of its launcher."""
    target = str(settings["_target_"])
    workers = {"JoblibLauncher": "n_jobs", "SlurmLauncher": "array_parallelism"}.get(target.rpartition(".")[2])
    if workers is None:
        return jobs if target.endswith(".LocalLauncher") else 1
    number = int(settings[workers])
    return min(number if number > 0 else os.cpu_count() or 1, jobs)


def threads(environment: Mapping[str, str]) -> int | None:
    """How many threads a launcher gives a job (conf/hydra/env); None where it leaves that open.

    Raises:
        ValueError: it is no number of threads.
    """
    number = str(environment.get("OMP_NUM_THREADS", ""))
    if number and not (number.isdecimal() and int(number) > 0):
        raise ValueError(f"a job's number of threads is {number!r}; set KERNELSR_THREADS or cpus_per_task to 1 or more")
    return int(number) if number else None


def missing(said: str) -> str | None:
    """What to install where Hydra says that it found no such launcher; None where it says something else."""
    for name, extra in EXTRAS.items():
        if f"'hydra/launcher/{name}'" in said:
            return (
                f"hydra/launcher={name} is not installed; pip install 'kernelsr[{extra}]' brings it, "
                f"in a checkout pip install -e '.[{extra}]'"
            )
    if "'hydra/env/" in said:
        return f"{said}\nconf/hydra/env has no file for this launcher; hydra/env=default takes it with the plugin's settings"
    return None


def lost(error: BaseException) -> str | None:
    """What an engine's own error means for the sweep; None for an error that is none."""
    said, engine = str(error).strip(), type(error).__module__.partition(".")[0]
    if engine == "joblib" and "terminated" in said:
        codes = said.partition("exit codes of the workers are ")[2].partition("\n")[0]
        return f"a worker was killed {codes}, mostly for want of memory: hydra.launcher.n_jobs=2 takes fewer; {AGAIN}"
    if engine == "submitit" and "sbatch: " in said:
        return f"Slurm refused the sweep: {said}; docs/clusters.md says how to set partition, account, memory and time"
    if engine == "submitit":
        few = "\n".join(line for line in said.splitlines() if line.strip())[:600]
        return f"a job ended without a result, others may still run: {few}\n{AGAIN}"
    if isinstance(error, RuntimeError) and '"srun"' in said:
        return f"this machine has no Slurm (no srun); {_ELSEWHERE}"
    return None


_ELSEWHERE = "submit from a cluster's login node, or use hydra/launcher=joblib here"
