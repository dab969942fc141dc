"""Folders of runs that tests fill, and a strict reader of the pages made from them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch

from kernelsr.problem import Estimate, Problem, Truth
from kernelsr.results import put_rows, safe_name, save_estimate

VOID = {"meta", "img", "br", "input", "link", "hr", "wbr"}


class Page(HTMLParser):
    """A strict reader: keeps texts, images and ids, and fails where tags do not match."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.feed(self.source)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)

    def values(self, tag: str, attribute: str) -> list[str]:
        return [attrs[attribute] or "" for name, attrs in self.attributes if name == tag and attribute in attrs]


def add(folder: Path, name: str, *, truth: bool = True, size: int = 12, method: str = "dkp+dip", **values: Any) -> None:
    """One finished image of scale 2 in a run's folder."""
    rng = torch.Generator().manual_seed(len(name))
    kernel = torch.rand(2, 1, 11, 11, generator=rng)
    kernel /= kernel.sum((2, 3), keepdim=True)
    hr = torch.rand(1, 3, 2 * size, 2 * size, generator=rng)
    trace = [{"step": s, "loss": 0.5**s, "kernel_psnr": 40.0 + s if truth else None} for s in range(0, 20, 5)]
    problem = Problem(hr[:, :, ::2, ::2], scale=2)
    known = Truth(hr, kernel[1:]) if truth else None
    save_estimate(folder / safe_name(name), Estimate(0.9 * hr, kernel[:1]), problem, known, trace)
    numbers = {"psnr": 24.0, "ssim": 0.8, "kernel_psnr": 50.0, "variance_error": 0.1} if truth else {}
    row = {"image": name, "method": method, "scale": 2, "seed": 0, "lr_psnr": 44.0, "seconds": 9.0}
    put_rows(folder / "rows.csv", [{**row, **numbers, **values}])


def fail(folder: Path, name: str, why: str) -> None:
    put_rows(folder / "rows.csv", [{"image": name, "method": "dkp+dip", "scale": 2, "seed": 0, "error": why}])


def floor(folder: Path, name: str, method: str, **values: Any) -> None:
    put_rows(folder / "floors.csv", [{"image": name, "method": method, "scale": 2, "seed": 0, **values}])


def job(folder: Path, method: str = "dkp+dip", data: str = "set5_aniso", command: str = "", **facts: Any) -> Path:
    """The folder of a sweep's job with its job.json."""
    folder.mkdir(parents=True, exist_ok=True)
    words = command or f"python run.py prior={method.partition('+')[0]} data={data}"
    (folder / "job.json").write_text(json.dumps({"data": data, "method": method, "command": words, **facts}))
    return folder
