"""experiments.softness: how much of the kernel's error is the photograph's own softness."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from experiments import softness
from kernelsr.files import read_table, write_table


def rows(own: float, rest: float, photographs: int = 400) -> list[dict[str, Any]]:
    """Errors of a deviation that is the photograph's own, and of one of each image; the other prior's are all of these."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(photographs):
        soft = own * rng.standard_normal()
        for scale in (2, 3, 4):
            true = rng.uniform(2, 4)
            found = true + soft + rest * rng.standard_normal(), true + rest * rng.standard_normal()
            sizes = {f"size_{prior}": np.log(size) for prior, size in zip(softness.PRIORS, found, strict=True)}
            made.append({"data": "set", "image": str(number), "scale": scale, "size_true": np.log(true)} | sizes)
    return made


def test_errors_that_a_photograph_has_at_all_scales_are_told_from_others() -> None:
    for prior, expected in (("amortised", 0.2), ("spectral", 0.0)):
        scales, error, true = softness.errors(rows(own=0.1, rest=0.2), prior)
        assert scales == [2, 3, 4] and error.shape == true.shape == (400, 3)
        assert 2 < true.min() < true.max() < 4
        assert softness.alike(error) == pytest.approx(expected, abs=0.07)


def test_what_the_other_scales_say_is_taken_off() -> None:
    _, same, _ = softness.errors(rows(own=0.1, rest=0.0), "amortised")
    assert np.abs(same).max() > 0.2 and np.abs(softness.less_the_photographs(same)).max() < 1e-9
    _, error, _ = softness.errors(rows(own=0.2, rest=0.1), "amortised")
    left = softness.less_the_photographs(error)
    # What is own is known by the mean of two others, to 0.1 / sqrt 2.
    assert error.std() == pytest.approx(np.sqrt(0.2**2 + 0.1**2), rel=0.05)
    assert left.std() == pytest.approx(np.sqrt(0.1**2 + 1 / (1 / 0.2**2 + 2 / 0.1**2)), rel=0.05)


def test_the_command_sums_rows_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "rows.csv"
    monkeypatch.setattr("sys.argv", ["softness", str(table)])
    write_table(table, rows(own=0.1, rest=0.1, photographs=60))
    softness.main()
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 8 and said[0].startswith("amortised (60 photographs): correlation")
    assert said[1].startswith("amortised x2: median error of the mean variance")
    for few in (read_table(table)[:6], [row for row in read_table(table) if row["scale"] == "2"]):
        write_table(table, few)
        with pytest.raises(SystemExit, match="no three photographs"):
            softness.main()
