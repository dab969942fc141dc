"""The quickstart notebook is its script converted, holds no outputs, and runs to its end in under two minutes."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted((ROOT / "notebooks").glob("*.py"))
LIMIT = 300  # a minute of computing; a busy machine takes longer
"""Seconds."""


def test_there_is_a_notebook() -> None:
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_notebook_is_its_script_converted(script: Path) -> None:
    jupytext = pytest.importorskip("jupytext")
    wanted, found = jupytext.read(script), jupytext.read(script.with_suffix(".ipynb"))
    # Cell ids are drawn anew by each conversion.
    assert [(cell.cell_type, cell.source) for cell in found.cells] == [(c.cell_type, c.source) for c in wanted.cells], (
        f"out of step; run: jupytext --to ipynb notebooks/{script.name}"
    )
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in found.cells), "commit no outputs"
    assert found.metadata["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_notebook_runs(script: Path, tmp_path: Path) -> None:
    for module in ("nbconvert", "ipykernel"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    # Figures go into the notebook whatever backend the shell chose, and imports find this checkout.
    environment = os.environ | {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    command = [sys.executable, "-m", "nbconvert", "--execute", "--to", "notebook", "--output-dir", str(tmp_path)]
    notebook = script.with_suffix(".ipynb")
    done = subprocess.run(
        [*command, str(notebook)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
    assert '"image/png"' in (tmp_path / notebook.name).read_text()
