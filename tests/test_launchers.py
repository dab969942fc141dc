"""Sweeps through other engines: the same rows as one after the other, the exit code, one thread a worker, what goes wrong."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from kernelsr import launchers

ROOT = Path(__file__).parent.parent
TINY = ["prior=gaussian", "restorer.channels=8", "restorer.skip=4", "solver.steps=2"]
TINY += ["references=false", "data=folder", "data.folder=photos"]
FOUR_CELLS = "scale=2,3"  # of two images
UNEQUAL = {"seconds", "peak_memory_mb", "date", "version"}  # somebody may commit meanwhile


def installed(launcher):
    """Skips where the plugin is not there: it is an extra."""
    name = "hydra_joblib_launcher" if launcher == "joblib" else "hydra_submitit_launcher"
    extra = launchers.EXTRAS[launcher]
    pytest.importorskip(f"hydra_plugins.{name}", reason=f"hydra/launcher={launcher} needs the extra {extra}")


def sweep(folder, name, *words, **environment):
    """A sweep started in ``folder``, into ``folder/name`` and with cells of its own; (exit code, output, errors)."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, str(ROOT / "run.py"), "-m", *TINY, f"hydra.sweep.dir={name}", f"cells={name}_cells"]
    done = subprocess.run([*command, *words], cwd=folder, env=env, text=True, capture_output=True, timeout=240)
    return done.returncode, done.stdout, done.stderr


def rows_of(folder):
    """All rows of a sweep, estimates and floors, without what two runs of it need not share."""
    rows = []
    for path in sorted([*folder.glob("*/rows.csv"), *folder.glob("*/floors.csv")]):
        with open(path, newline="") as file:
            rows += [{key: row[key] for key in row.keys() - UNEQUAL} for row in csv.DictReader(file)]
    return rows


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A folder to start sweeps in, with two photographs."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "photos").mkdir()
    with Image.open(ROOT / "kernelsr" / "photos" / "chelsea.png") as picture:
        for name, corner in (("a", 0), ("b", 72)):
            picture.crop((corner, corner, corner + 72, corner + 72)).save(folder / "photos" / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def serial(start):
    code, _, errors = sweep(start, "serial", FOUR_CELLS)
    assert code == 0, errors
    rows = rows_of(start / "serial")
    assert len([row for row in rows if row["method"] == "gaussian+dip"]) == 4
    return rows


def test_two_workers_of_one_thread_make_the_rows_of_a_serial_sweep_and_tell_of_a_failed_job(start, serial):
    installed("joblib")
    words = ["scale=2,3,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    # More threads are what a user's environment, or joblib on a large machine, would give each worker.
    code, printed, errors = sweep(start, "workers", *words, OMP_NUM_THREADS="2", MKL_NUM_THREADS="2")
    assert rows_of(start / "workers") == serial
    assert (start / "workers" / "table.txt").read_text() in printed
    # By workers that each see the rows of both; the two cells that failed count no longer once they have.
    assert re.search(r"3/6 done, 3 left|3/4 done, 1 left", errors)
    assert code == 1 and "scale is 1" in errors and "kernelsr: 1 failed" in errors and "Traceback" not in errors


def test_submitits_jobs_make_the_rows_of_a_serial_sweep(start, serial):
    installed("submitit_local")
    words = ["hydra/launcher=submitit_local", "hydra.launcher.cpus_per_task=1"]
    code, printed, errors = sweep(start, "local", FOUR_CELLS, *words)
    assert code == 0, errors
    assert rows_of(start / "local") == serial
    assert (start / "local" / "table.txt").read_text() in printed


@pytest.mark.skipif("KERNELSR_SLURM" not in os.environ, reason="on a machine with Slurm: KERNELSR_SLURM=1")
def test_slurms_jobs_make_the_rows_of_a_serial_sweep(start, serial):
    installed("submitit_slurm")
    words = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]
    code, printed, errors = sweep(start, "slurm", FOUR_CELLS, *words)
    assert code == 0, errors
    assert rows_of(start / "slurm") == serial
    assert (start / "slurm" / "table.txt").read_text() in printed


@pytest.mark.parametrize(
    ("target", "settings", "number"),
    [
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", {}, 1),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": 3}, 3),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", {"n_jobs": -1}, min(os.cpu_count(), 5)),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", {"array_parallelism": 32}, 5),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher", {}, 5),
    ],
)
def test_how_many_of_five_jobs_run_at_a_time(target, settings, number):
    assert launchers.at_once({"_target_": target, **settings}, 5) == number


def test_a_launcher_without_a_sweep_is_told(start):
    installed("joblib")
    words = ["hydra/launcher=joblib", "scale=1", "hydra.run.dir=alone", "data=folder", "data.folder=photos"]
    command = [sys.executable, str(ROOT / "run.py"), *words]
    done = subprocess.run(command, cwd=start, text=True, capture_output=True, timeout=60)
    assert "-m" in done.stderr and "scale is 1" in done.stderr


def test_threads_that_are_no_number_are_told():
    assert launchers.threads({}) is None and launchers.threads({"OMP_NUM_THREADS": "3"}) == 3
    for wrong in ("many", "0", "None"):
        with pytest.raises(ValueError, match="KERNELSR_THREADS"):
            launchers.threads({"OMP_NUM_THREADS": wrong})


def test_a_launcher_that_is_not_installed_names_its_extra(tmp_path):
    without = "import sys; sys.modules['hydra_plugins'] = None; from kernelsr.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", without, "-m", "hydra/launcher=submitit_slurm", "seed=0,1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1 and "kernelsr[slurm]" in done.stderr and len(done.stderr.splitlines()) == 1
    assert "kernelsr[sweep]" in (launchers.missing("Could not find 'hydra/launcher/joblib'") or "")


def test_a_killed_worker_and_a_lost_job_are_told_in_a_sentence():
    installed("joblib")
    installed("submitit_slurm")
    from joblib.externals.loky.process_executor import TerminatedWorkerError
    from submitit.core.utils import FailedJobError, UncompletedJobError

    killed = "A worker process was unexpectedly terminated.\nThe exit codes of the workers are {SIGKILL(-9)}\nMore."
    for error, word in [
        (TerminatedWorkerError(killed), "SIGKILL(-9)"),
        (FailedJobError("sbatch: error: invalid partition specified: gold"), "partition specified: gold"),
        (UncompletedJobError("Job 7 (task: 0) has not produced any output (state: TIMEOUT)"), "state: TIMEOUT"),
        (RuntimeError('Could not detect "srun", are you indeed on a slurm cluster?'), "no Slurm"),
    ]:
        assert word in (launchers.lost(error) or "")
    assert launchers.lost(RuntimeError("a bug of ours")) is None


def test_shards_may_be_the_jobs_of_one_sweep(start, serial):
    code, _, errors = sweep(start, "shards", FOUR_CELLS, "shard=1/2,2/2")
    assert code == 0, errors
    rows = rows_of(start / "shards")
    assert len(rows) == len(serial) and all(row in serial for row in rows)
