"""The command line: `python run.py` and `kernelsr`. One scenario, one method, one row an image, one report."""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# Hydra passes errors on, and main() says them in the user's words.
os.environ.setdefault("HYDRA_FULL_ERROR", "1")

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kernelsr import launchers
from kernelsr.paths import CONF
from kernelsr.waiting import wait_briefly

wait_briefly()  # NumPy and PyTorch are imported later, in the functions that need them


def method_name(choices: Mapping[str, Any]) -> str:
    """What the rows call a method: the experiment, otherwise the parts; then the non-blind restorer. As in kernelgan+zssr.

    A preset stands for the solver that it brings: dkp+usrnet fast.
    """
    words = [choices["experiment"]] if choices["experiment"] else [choices["prior"], choices["restorer"]]
    if choices["start"] != "own":
        words[0] += f"@{choices['start']}"
    words += [choices["nonblind"]]
    name = "+".join(str(word) for word in words if word != "none")
    if choices.get("preset", "none") != "none":
        return f"{name} {choices['preset']}"
    return name if choices["experiment"] or choices["solver"] == "joint" else f"{name} {choices['solver']}"


def data_name(choices: Mapping[str, Any], images: str | None) -> str:
    """What the rows call the data: the group, or its images and the protocol that makes them: set5_aniso, set5_fkp2021."""
    if choices["protocol"] == "none":
        return str(choices["data"])
    return f"{images or choices['data']}_{choices['protocol']}"


def command_of(words: Sequence[str]) -> str:
    """The command that makes a run again, without the words that change no number."""
    from kernelsr.worker import NUMBERLESS

    kept = [word for word in words if word.lstrip("+~").partition("=")[0] not in NUMBERLESS]
    return shlex.join(["python", "run.py", *kept])


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


_failures: list[str] = []
"""What failed so far in this process; of a sweep's jobs elsewhere their files tell."""


class AfterSweep(Callback):
    """Makes the table and the page of a sweep when its last job is done, wherever the jobs ran."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        from kernelsr.progress import JOBS, WORKERS

        words = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        jobs = [len(list(word.sweep_string_iterator())) for word in words if word.is_sweep_override()]
        count = math.prod(jobs)
        workers = launchers.at_once(config.hydra.launcher, count)
        os.environ |= {JOBS: str(count), WORKERS: str(workers)}

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        from kernelsr import sweeps

        try:
            _failures[:] = sweeps.finish(Path(config.hydra.sweep.dir))
        except (ValueError, OSError) as error:
            _failures.append(str(error))
            print(f"kernelsr: {error}", file=sys.stderr)


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")
def _job(cfg: DictConfig) -> None:
    """One run of the command line, or one job of a sweep, in whichever process it is."""
    import torch

    from kernelsr.composition import refuse_two_schedules
    from kernelsr.jobs import Job
    from kernelsr.runs import run

    settings = HydraConfig.get()
    chosen = settings.runtime.choices
    if settings.mode == RunMode.RUN and chosen["hydra/launcher"] != "basic":
        print(
            "kernelsr: a launcher is for the jobs of a sweep (-m); this is one run, and goes on here", file=sys.stderr
        )
    folder = Path(settings.runtime.output_dir)
    number = 0 if OmegaConf.is_missing(settings.job, "num") else settings.job.num
    data = data_name(chosen, cfg.data.images)
    job = Job(data, method_name(chosen), command_of(settings.overrides.task), number)
    try:
        refuse_two_schedules(chosen["preset"], chosen["experiment"])
        job.save(folder)
        if threads := launchers.threads(settings.job.env_set):
            torch.set_num_threads(threads)  # it was loaded before Hydra set the job's environment
        _failures.extend(run(cfg, folder, job, version()))
    except (ValueError, FileNotFoundError) as error:
        # The next job of a sweep goes on.
        job.error = str(error)
        job.save(folder)
        _failures.append(job.error)
        print(f"kernelsr: {error}", file=sys.stderr)


def _unread() -> bool:
    """Whether nobody reads what is printed; then it goes nowhere from here on, as the interpreter flushes it at its end."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def main() -> None:
    """Entry point; exit code 1 where anything failed, 130 where it was interrupted, 141 where nobody reads on."""
    run_job: Callable[[], None] = _job
    try:
        run_job()
    except (HydraException, OmegaConfBaseException) as error:
        from kernelsr.composition import explained

        said = explained(error)
        if "Could not override" in said and {"-m", "--multirun"} & set(sys.argv):
            said += "\nA setting of a group that the sweep chooses is written prior.lr=choice(0.1): it is not of the default."
        sys.exit(f"kernelsr: {launchers.missing(said) or said}")
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _unread():  # python run.py --help | head
            sys.exit(141)
        remedy = "" if "choose another" in str(error) else "; choose another folder with hydra.run.dir=FOLDER"
        sys.exit(f"kernelsr: cannot write the results: {error}{remedy}")
    except KeyboardInterrupt:
        print("kernelsr: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if meaning := launchers.lost(error):
            sys.exit(f"kernelsr: {meaning}")
        raise
    if _failures:
        print(f"kernelsr: {len(_failures)} failed", file=sys.stderr)
    sys.exit(1 if _failures else 0)


if __name__ == "__main__":
    main()
