"""The wheel: it carries configuration, photographs, flows and templates, and works from any folder."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from kernelsr.results import read_rows

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=300)
    (path,) = folder.glob("kernelsr-*.whl")
    return path


def test_the_wheel_carries_what_the_package_needs(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for scale in (2, 3, 4, 8):
        assert f"kernelsr/weights/flow_x{scale}.safetensors" in names
    for name in ("conf/config.yaml", "conf/data/set5_aniso.yaml", "photos/SOURCES.txt"):
        assert f"kernelsr/{name}" in names
    for path in (ROOT / "kernelsr" / "templates").iterdir():
        assert f"kernelsr/templates/{path.name}" in names
    assert not [name for name in names if name.startswith(("tests", "experiments")) or name.endswith(".checkpoint")]


def test_the_installed_script_runs_from_any_folder(wheel, tmp_path):
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, timeout=300)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    where = subprocess.run(
        [sys.executable, "-c", "import kernelsr; print(kernelsr.__file__)"],
        cwd=elsewhere, env=env, text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(site))
    words = ["prior=softmax", "restorer=bicubic", "data.only=coffee", "solver.steps=2", "progress=false"]
    done = subprocess.run(
        [str(site / "bin" / "kernelsr"), *words], cwd=elsewhere, env=env, text=True, capture_output=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert len(list(elsewhere.glob("outputs/*/*/report.html"))) == 1
    (rows,) = elsewhere.glob("outputs/*/*/rows.csv")
    assert "0.1.0 installed" in read_rows(rows)[0]["version"]
