"""The engines that run the jobs of a sweep elsewhere (conf/hydra/env): what they miss or report, in the user's words."""

from __future__ import annotations

EXTRAS = {"joblib": "sweep", "submitit_local": "slurm", "submitit_slurm": "slurm"}
"""The launchers and the extra of pyproject.toml that brings each."""
AGAIN = "the same command computes what is missing"


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
