"""README's table of a step's cost follows the benchmark's rows."""

from __future__ import annotations

from pathlib import Path

from experiments.tables import speed

HEAD = (
    "date,commit,machine,torch,threads,variant,side,channels,step_seconds,faster,gflop,gflops,matmul_gflops,share,"
    "peak_mb\n"
)


def row(variant: str, seconds: float, faster: float, side: int = 252, channels: int = 128, machine: str = "A") -> str:
    return f'2026-01-01,abc,"{machine}, 2 cores",2.13,2,{variant},{side},{channels},{seconds},{faster},1,1,1,0.5,9\n'


def test_the_latest_row_of_each_variant_counts_with_its_machine(tmp_path: Path) -> None:
    rows = [row("plain", 9.0, 9.0, machine="old"), row("plain", 2.0, 1.0), row("bf16", 1.0, 2.0, channels=32)]
    (tmp_path / speed.FILE).write_text(HEAD + "".join(rows) + row("small", 7.0, 7.0, side=128))
    text = speed.speed(tmp_path)
    assert "| plain | 2.000 | 1.00 | 50 |  |  |  |" in text
    assert "| bf16 |  |  |  | 1.000 | 2.00 | 50 |" in text
    assert "on A, 2 cores, 2 threads, torch 2.13" in text
    assert "9.000" not in text and "7.000" not in text and "old" not in text
