"""Every command that README and docs show composes, and its data group can degrade an image."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from kernelsr.configure import compose_config, scenario_of

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^    python run\.py(?: -m)?([^#\n]*)", re.MULTILINE)
ELSEWHERE = ("hydra/", "--", "...", "\\")
"""Of launchers, help, and what is shown in part."""
THEIRS = ("my_kernels/",)
"""What a reader has and we have not."""


def commands() -> list[str]:
    """The words of each, without its remark."""
    shown = {" ".join(line.split()) for page in PAGES for line in COMMAND.findall(page.read_text(encoding="utf-8"))}
    return sorted(words for words in shown if not any(part in words for part in ELSEWHERE + THEIRS))


def job(command: str, which: int) -> list[str]:
    """The words of a sweep's first or last job: lists are values apart from [a,b]."""
    pairs = [word.partition("=") for word in command.split()]
    return [f"{key}={value if '[' in value else value.split(',')[which]}" for key, _, value in pairs]


def test_the_pages_show_commands() -> None:
    assert len(commands()) > 40 and "prior=fkp data=demo scale=2" in commands()
    assert job("prior=fkp,dkp data.only=[a,b]", -1) == ["prior=dkp", "data.only=[a,b]"]


@pytest.mark.parametrize("command", commands())
def test_a_command_composes_and_its_data_are_possible(command: str) -> None:
    if "KERNELSR_DATA" not in os.environ and any(kernels in command for kernels in ("usrnet12", "levin")):
        pytest.skip("needs published kernels: set KERNELSR_DATA")
    for words in {tuple(job(command, 0)), tuple(job(command, -1))}:
        cfg = compose_config(words)
        # Its images may be elsewhere: those of the package are here.
        cfg.data.images, cfg.data.folder, cfg.data.only = "demo", None, None
        assert len(scenario_of(cfg)) == 4
