"""The measurement of what JPEG's error is worth runs, and its summary says what its rows say."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from experiments import jpegs

PHOTOS = Path(str(files("kernelsr") / "photos"))


def test_a_jpeg_is_found_and_telling_usrnet_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpegs, "QUALITIES", (60,))
    rows = list(jpegs.rows_of(PHOTOS, 128, [2]))  # two of the bundled photographs
    assert [row["quality"] for row in rows] == ["none", 60] * 2
    for clean, compressed in zip(rows[::2], rows[1::2], strict=True):
        assert clean["error_found"] == clean["error"] == 0
        assert 0.3 < compressed["error_found"] / compressed["error"] < 3
        assert compressed["psnr_0"] + 0.3 < compressed["psnr_1"] and compressed["psnr_0"] + 0.3 < compressed["psnr_2"]
    none, sixty = jpegs.summary(rows)
    assert none == "x2, quality none: 0 of 2 found"
    gain = sum(row["psnr_2"] - row["psnr_0"] for row in rows[1::2]) / 2
    assert sixty.startswith("x2, quality 60: 2 of 2 found") and f"x2 {gain:+.2f}" in sixty
