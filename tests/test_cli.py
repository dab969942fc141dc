"""The command line as users meet it: what a run leaves behind, bad input, sweeps, interruption."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hydra import compose, initialize_config_dir
from PIL import Image

from kernelsr import cli, results, runs, worker
from kernelsr.images import read_image
from kernelsr.jobs import Job
from kernelsr.noise import heard
from kernelsr.paths import CONF

ROOT = Path(__file__).parent.parent
PHOTOS = ROOT / "kernelsr" / "photos"
QUICK = ["solver.steps=4", "progress=false"]
STORES = tempfile.TemporaryDirectory(prefix="kernelsr-cells-")
TINY = ["restorer.channels=8", "restorer.skip=4", "prior.rehearsal=2", *QUICK, "references=false"]


def start(*words, cwd=ROOT, **environment):
    """`python run.py` in a process of its own, with a store of cells of its own where none is named."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    if not any(word.startswith(("cells=", "--help")) for word in words):
        words = (*words, f"cells={tempfile.mkdtemp(dir=STORES.name)}")
    command = [sys.executable, str(ROOT / "run.py"), *words]
    return subprocess.Popen(command, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(*words, **more):
    process = start(*words, **more)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def rows_of(folder):
    with open(folder / "rows.csv", newline="") as file:
        return list(csv.DictReader(file))


def configured(*words):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [*words, f"cells={tempfile.mkdtemp(dir=STORES.name)}"])


def job_of(method="dkp+dip", data="folder"):
    return Job(data, method, f"python run.py data={data}")


@pytest.fixture
def photos(tmp_path):
    """Two small photographs and a truncated one between them."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "c"):
        with Image.open(PHOTOS / "chelsea.png") as picture:
            picture.crop((0, 0, 96, 96)).save(folder / f"{name}.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:3000])
    return folder


def test_a_nonblind_restorer_adds_its_numbers_and_its_bounds(photos, tmp_path):
    out = tmp_path / "out"
    words = ["prior=gaussian", "restorer=bicubic", "nonblind=wiener", "data.only=a"]
    code, printed, errors = run("data=folder", f"data.folder={photos}", f"hydra.run.dir={out}", *words, *QUICK)
    assert code == 0, errors
    (row,) = rows_of(out)
    assert row["method"] == "gaussian+bicubic+wiener" and "nbPSNR" in printed
    references = {row["method"]: row for row in results.read_rows(out / "floors.csv")}
    mean, bound = references["floor: mean kernel + wiener"], references["bound: true kernel + wiener"]
    # The kernel has not moved from the mean one yet; the true one restores better.
    assert float(row["psnr_nonblind"]) == pytest.approx(mean["psnr_nonblind"], abs=0.01)
    assert bound["psnr_nonblind"] > mean["psnr_nonblind"] + 0.1 and bound["psnr"] is None
    assert (out / "a" / "sr.png").read_bytes() != (out / "a" / "solver.png").read_bytes()


def test_without_a_nonblind_restorer_the_bound_is_our_usrnets_and_can_be_left_out(photos, tmp_path):
    words = ["prior=gaussian", "restorer=bicubic", "data.only=a", *QUICK]
    for name, more in (("with", []), ("without", ["references=false"])):
        code, _, errors = run("data=folder", f"data.folder={photos}", f"hydra.run.dir={tmp_path / name}", *words, *more)
        assert code == 0, errors
    bounds = [
        [row["psnr"] for row in results.read_rows(tmp_path / name / "floors.csv") if row["method"].startswith("bound")]
        for name in ("with", "without")
    ]
    (row,) = rows_of(tmp_path / "with")
    assert bounds[0][0] > float(row["psnr"]) and bounds[1] == []


def test_a_sweep_ends_in_one_table(photos, tmp_path):
    words = ["prior=gaussian", "restorer=bicubic", "nonblind=wiener,bicubic", "data.only=a", "references=false"]
    out = tmp_path / "sweep"
    code, printed, errors = run(
        "-m", "data=folder", f"data.folder={photos}", f"hydra.sweep.dir={out}", "scale=2,3", *words, *QUICK
    )
    assert code == 0, errors
    table = (out / "table.txt").read_text()
    assert table in printed
    for method in ("wiener", "bicubic"):
        for scale in (2, 3):
            (line,) = [line for line in table.splitlines() if line.startswith(f"gaussian+bicubic+{method}, x{scale} ")]
            assert "–" not in line


def test_a_sweep_tells_jobs_apart_by_what_varies(photos, tmp_path):
    words = ["prior=gaussian", "restorer=bicubic", "prior.lr=0.01,0.02", "data.only=a", "references=false", "scale=2"]
    more = ["data.family.variances=[1,1],[4,4]", *QUICK]
    out = tmp_path / "sweep"
    code, _, errors = run("-m", "data=folder", f"data.folder={photos}", f"hydra.sweep.dir={out}", *words, *more)
    assert code == 0, errors
    lines = (out / "table.txt").read_text().splitlines()
    assert len([line for line in lines if line.startswith("gaussian+bicubic prior.lr=0.01 ")]) == 2
    assert len([line for line in lines if line.startswith("gaussian+bicubic prior.lr=0.02 ")]) == 2
    assert len([line for line in lines if line.startswith("folder data.family.variances=")]) == 2


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "dkp+dip"),
        ({"nonblind": "usrnet"}, "dkp+dip+usrnet"),
        ({"start": "spectral"}, "dkp@spectral+dip"),
        (
            {"experiment": "kernelgan", "restorer": "none", "solver": "adversarial", "nonblind": "zssr"},
            "kernelgan+zssr",
        ),
        ({"solver": "alternating"}, "dkp+dip alternating"),
        ({"restorer": "none", "solver": "adversarial"}, "dkp adversarial"),
    ],
)
def test_what_a_method_is_called(changes, name):
    usual = {
        "experiment": None,
        "prior": "dkp",
        "restorer": "dip",
        "nonblind": "none",
        "start": "own",
        "solver": "joint",
    }
    assert cli.method_name({**usual, **changes}) == name


def test_one_bad_image_is_reported_and_the_rest_completes(photos, tmp_path):
    out = tmp_path / "out"
    code, printed, errors = run("data=folder", f"data.folder={photos}", f"hydra.run.dir={out}", *TINY)
    assert code == 1
    first, bad, last = rows_of(out)
    assert [row["image"] for row in (first, bad, last)] == ["a", "b", "c"]
    assert "b.png" in bad["error"] and not bad["psnr"] and "b.png" in errors
    for row in (first, last):
        assert not row["error"] and row["method"] == "dkp+dip" and row["scale"] == "4" and row["seed"] == "0"
        assert 0 < float(row["psnr"]) < 60 and float(row["seconds"]) > 0 and float(row["peak_memory_mb"]) > 50
        assert float(row["variance_error"]) > 0 and 0 < float(row["kernel_psnr"]) < 100
    kernel = np.load(out / "a" / "kernel.npy")
    assert kernel.shape == (19, 19) and kernel.dtype == np.float64 and kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.array_equal(scipy.io.loadmat(out / "a" / "kernel.mat")["Kernel"], kernel)
    with Image.open(out / "a" / "sr.png") as sr:
        assert sr.size == (96, 96)
    assert (out / "a" / "kernel.png").stat().st_size > 100
    trace = results.read_trace(out / "a" / "trace.csv")
    assert [row["step"] for row in trace] == [1, 2, 3, 4] and all(row["loss"] > 0 for row in trace)
    assert len(rows_of_floors(out)) == 8
    page = (out / "report.html").read_text()
    assert "b.png" in page and "data:image/png;base64," in page
    assert "dkp+dip" in printed and "floor: mean kernel" in printed and str(out / "report.html") in printed


def rows_of_floors(folder):
    with open(folder / "floors.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_says_what_noise_was_told_or_heard(tmp_path):
    words = ("prior=spectral", "data=demo_aniso", "data.only=coffee", "data.window=96", *QUICK[1:], "references=false")
    for noise in ("fixed", "untold", None):
        out = tmp_path / str(noise)
        more = (f"data.noise={noise}", "data.noise_std=0.04") if noise else ()
        code, _, errors = run(*words, *more, f"hydra.run.dir={out}")
        (row,) = rows_of(out)
        assert code == 0, errors
        said = float(row["noise_std"])
        assert said == {"fixed": 0.04, "untold": heard(read_image(out / "coffee" / "lr.png")), None: 0}[noise]
        assert (said > 0) is bool(noise) is (">Noise<small>" in (out / "report.html").read_text()) is bool(noise)


def test_a_sweep_writes_one_folder_a_job_and_says_in_its_exit_code_that_one_failed(photos, tmp_path):
    out = tmp_path / "sweep"
    code, _, errors = run(
        *("-m", "prior=softmax,fkp", "weights=bundled,no_such_file.pt", "data=folder", f"data.folder={photos}/a.png"),
        *(f"hydra.sweep.dir={out}", "restorer.channels=8", "restorer.skip=4", "solver.steps=2", "progress=false"),
    )
    assert code == 1
    done = {row["method"] for job in "012" for row in rows_of(out / job) if not row["error"]}
    assert done == {"softmax+dip", "fkp+dip"}
    # A setting that is wrong for all images ends its job at once.
    assert (out / "3" / "job.json").exists() and not (out / "3" / "rows.csv").exists()
    assert "no_such_file.pt" in errors


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prior=nonsense"], ["double_dip", "fkp", "softmax"]),
        (["prior.speed=1"], ["speed", "rehearsal", "listen_every"]),
        (["nonsense=1"], ["nonsense", "scale", "weights"]),
        (["scale=2.5"], ["scale is 2.5", "integer"]),
        (["scale=1"], ["scale is 1", "2 to 16"]),
        (["data=folder"], ["data.folder="]),
        (["data=folder", "data.folder=/nonexistent/photos"], ["/nonexistent/photos"]),
        (["seed=many"], ["seed is 'many'"]),
        (["cells=null"], ["cells is None", "folder"]),
        (["cells=run.py"], ["cells is 'run.py'", "folder"]),
        (["resume=maybe"], ["resume is 'maybe'", "true or false"]),
        (["tf32=maybe"], ["tf32 is 'maybe'", "true or false"]),
        (["threads=0"], ["threads is 0", "null"]),
        (["threads=all"], ["threads is 'all'"]),
        (["device=abacus"], ["auto, cpu or cuda"]),
        (["hydra.run.dir=/dev/null/folder"], ["/dev/null/folder", "hydra.run.dir="]),
    ],
)
def test_wrong_settings_are_explained_in_a_few_lines(words, said, tmp_path):
    where = [] if any(word.startswith("hydra.run.dir") for word in words) else [f"hydra.run.dir={tmp_path}"]
    code, _, errors = run(*where, *words)
    assert code == 1
    assert "Traceback" not in errors and len(errors.splitlines()) < 16
    for word in said:
        assert word in errors


def test_threads_wait_awake_for_a_moment_only_unless_the_user_says_how_they_wait():
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    free = {key: value for key, value in os.environ.items() if key not in names} | {"PYTHONPATH": str(ROOT)}
    told = f"import os, kernelsr.cli; print(*map(os.environ.get, {names}))"
    for set_by_user, expected in (
        ({}, "PASSIVE 1000"),
        ({"GOMP_SPINCOUNT": "7"}, "PASSIVE 7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
    ):
        out = subprocess.run([sys.executable, "-c", told], env=free | set_by_user, capture_output=True, text=True)
        assert out.stdout.strip() == expected


def test_a_missing_set_names_its_variable(tmp_path):
    code, _, errors = run(
        "data=urban100_aniso", f"hydra.run.dir={tmp_path}", KERNELSR_DATA=str(tmp_path), KERNELSR_CACHE=str(tmp_path)
    )
    assert code == 1 and "KERNELSR_DATA" in errors and "Urban100" in errors and "Traceback" not in errors


def test_a_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no images"):
        runs.run(configured("data=folder", f"data.folder={tmp_path}"), tmp_path / "out", job_of(), "")


def test_threads_that_are_none_end_the_run_before_any_image(photos, tmp_path):
    with pytest.raises(ValueError, match="threads is 0"):
        runs.run(configured("data=folder", f"data.folder={photos}", "threads=0", *TINY), tmp_path, job_of(), "")


def test_an_image_smaller_than_the_kernel_is_skipped_with_its_reason(tmp_path, capsys):
    Image.new("RGB", (5, 5)).save(tmp_path / "dot.png")
    cfg = configured("data=real", f"data.folder={tmp_path}", "scale=2", *TINY)
    assert len(runs.run(cfg, tmp_path / "out", job_of(data="real"), "")) == 1
    assert "smaller than the kernel" in rows_of(tmp_path / "out")[0]["error"]


def test_a_diverged_optimisation_is_no_result(photos, tmp_path):
    cfg = configured("data=folder", f"data.folder={photos}/a.png", "restorer.lr=1e30", "prior.base.lr=1e30", *TINY)
    assert "diverged" in runs.run(cfg, tmp_path, job_of(), "")[0]


def test_a_full_disk_ends_the_run_and_keeps_the_rows(photos, tmp_path, monkeypatch):
    cfg = configured("data=folder", f"data.folder={photos}", *TINY)
    save, saved = results.save_estimate, []

    def full_after_one(*arguments):
        if saved:
            raise OSError(28, "No space left on device")
        saved.append(save(*arguments))

    monkeypatch.setattr(results, "save_estimate", full_after_one)
    with pytest.raises(OSError, match="No space left"):
        runs.run(cfg, tmp_path / "out", job_of(), "")
    assert [row["image"] for row in rows_of(tmp_path / "out")] == ["a", "b"]


def test_numbers_depend_on_neither_order_nor_company(photos, tmp_path):
    cfg = configured("data=folder", f"data.folder={photos}", *TINY)
    alone = configured("data=folder", f"data.folder={photos}", "data.only=c", *TINY)
    runs.run(cfg, tmp_path / "all", job_of(), "")
    runs.run(alone, tmp_path / "one", job_of(), "")
    kernels = [np.load(tmp_path / folder / "c" / "kernel.npy") for folder in ("all", "one")]
    assert np.array_equal(*kernels)
    other = configured("data=folder", f"data.folder={photos}", "data.only=c", "seed=1", *TINY)
    runs.run(other, tmp_path / "other", job_of(), "")
    assert not np.array_equal(kernels[0], np.load(tmp_path / "other" / "c" / "kernel.npy"))


def test_what_is_installed_later_is_computed_beside_a_finished_estimate(photos, tmp_path, monkeypatch):
    cfg = configured("data=folder", f"data.folder={photos}", "data.only=c", *TINY)
    for installed in (False, True):
        monkeypatch.setattr(worker, "available", lambda carrier, here=installed: here)
        monkeypatch.setattr(
            worker, "_references", lambda cfg, case, here=installed: {"rows": [{"method": f"floor {here}"}]}
        )
        runs.run(cfg, tmp_path / str(installed), job_of(), "")
        assert f"floor {installed}" in (tmp_path / str(installed) / "floors.csv").read_text()


def test_what_was_finished_before_says_what_made_it(photos, tmp_path):
    cfg = configured("data=folder", f"data.folder={photos}", "data.only=c", *TINY)
    for version in ("first", "second"):
        runs.run(cfg, tmp_path / version, job_of(), version)
    for name in ("rows.csv", "floors.csv"):
        assert {row["version"] for row in results.read_rows(tmp_path / "second" / name)} == {"first"}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_in_the_middle_nothing_that_was_done_is_lost(photos, tmp_path, how):
    for name in "defgh":
        shutil.copy(photos / "a.png", photos / f"{name}.png")
    out = tmp_path / "out"
    process = start("data=folder", f"data.folder={photos}", f"hydra.run.dir={out}", *TINY, "solver.steps=30")
    deadline = time.monotonic() + 200
    while not (out / "rows.csv").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(how)
    process.communicate(timeout=60)
    done = rows_of(out)
    assert 1 <= len(done) < 8 and done[0]["image"] == "a" and float(done[0]["psnr"]) > 0
    if how == signal.SIGINT:
        assert process.returncode == 130 and (out / "report.html").exists()


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    """`python run.py --help | head -1`."""
    process = start("--help")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert (process.stderr.read(), process.wait(timeout=60)) == ("", 141)


def test_help_lists_the_groups():
    code, printed, _ = run("--help")
    assert code == 0
    for word in ("prior: amortised, deep_linear, dkp, double_dip, fkp", "set5_aniso", "dip_fkp"):
        assert word in printed
