"""The registry of published results, `experiments/published.yaml`: read, checked line by line, and asked for targets.

`python -m experiments.published [FILE]` checks a registry and lists what may be shown.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from kernelsr.results import METRICS

PUBLISHED = Path(__file__).with_name("published.yaml")
STATUSES = ("verified", "unverified")
SAME_DATA = {"fkp2021": "aniso", "dkp2024": "aniso", "dkp2024_motion": "motion"}
"""What a protocol makes of an image set, where a data group of its own makes the same."""


@dataclass(frozen=True)
class Published:
    """A number that others published.

    Args:
        method: in the source's words.
        set: what our rows call the data, or ``div2krk``.
        metric: a column of rows.csv.
        source: where it was read.
        status: ``verified``, its source was read, or ``unverified``: never shown as a target.
        image: of one image; None is the mean over the set.
        line: in the registry.
    """

    method: str
    set: str
    scale: int
    metric: str
    value: float
    source: str
    status: str
    image: str | None = None
    line: int = 0

    def __post_init__(self) -> None:
        for name in ("method", "set", "source"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be a word or a sentence")
        if self.image is not None and not isinstance(self.image, str):
            raise ValueError(f'image is {self.image!r}; write it in quotes: image: "{self.image}"')
        if type(self.scale) is not int or not 2 <= self.scale <= 16:
            raise ValueError(f"scale is {self.scale!r}; it must be an integer from 2 to 16")
        if self.metric not in METRICS:
            raise ValueError(f"metric is {self.metric!r}; choose one of {', '.join(METRICS)}")
        if type(self.value) not in (int, float) or not math.isfinite(self.value):
            raise ValueError(f"value is {self.value!r}; it must be a number")
        if self.metric.startswith("ssim") and not -1 <= self.value <= 1:
            raise ValueError(f"value is {self.value}; an SSIM lies in [-1, 1]")
        if self.status not in STATUSES:
            raise ValueError(f"status is {self.status!r}; choose verified (its source was read) or unverified")

    @property
    def what(self) -> tuple[str, str, str | None, int, str]:
        """What is measured: a registry has one number for it."""
        return self.method, self.set, self.image, self.scale, self.metric


NAMES = tuple(field.name for field in fields(Published) if field.name != "line")
REQUIRED = tuple(name for name in NAMES if name != "image")


def read(path: Path = PUBLISHED) -> list[Published]:
    """Every row of a registry, in its order.

    Raises:
        ValueError: a row is wrong; names the file, the line and the remedy.
        FileNotFoundError: there is no such file.
    """
    try:
        document = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueError(f"{path}, line {line} is no YAML: {error.problem}; see the lines around it") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML text: {error}") from error
    if not isinstance(document, yaml.SequenceNode):
        raise ValueError(f"{path} has no rows; a row is a line: - {{{', '.join(f'{name}: ...' for name in REQUIRED)}}}")
    rows: list[Published] = []
    lines: dict[tuple, int] = {}
    for node in document.value:
        line = node.start_mark.line + 1
        try:
            row = Published(**_settings(node), line=line)
            if row.what in lines:
                raise ValueError(f"line {lines[row.what]} has this number already; keep one of them")
        except (ValueError, yaml.YAMLError) as error:
            raise ValueError(f"{path}, line {line}: {' '.join(str(error).split())}") from error
        lines[row.what] = line
        rows.append(row)
    return rows


def targets(data: str, scale: int, path: Path = PUBLISHED) -> list[Published]:
    """The verified rows for what our rows call ``data``; only these may be shown beside our numbers."""
    images, _, protocol = data.partition("_")
    names = {data, f"{images}_{SAME_DATA.get(protocol, protocol)}"}
    return [row for row in read(path) if row.status == "verified" and row.set in names and row.scale == scale]


def _settings(node: yaml.Node) -> dict[str, Any]:
    """A row's settings by name."""
    if not isinstance(node, yaml.MappingNode):
        raise ValueError(f"this is no row; write {{{', '.join(f'{name}: ...' for name in REQUIRED)}}}")
    loader = yaml.SafeLoader("")
    keys = [str(key.value) for key, _ in node.value]
    if unknown := sorted(set(keys) - set(NAMES)):
        raise ValueError(f"there is no {', '.join(unknown)} in a row; its parts are {', '.join(NAMES)}")
    if missing := [name for name in REQUIRED if name not in keys]:
        raise ValueError(f"{', '.join(missing)} is missing")
    if len(set(keys)) < len(keys):
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)} is given twice")
    return {str(key.value): loader.construct_object(value, deep=True) for key, value in node.value}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, nargs="?", default=PUBLISHED)
    options = parser.parse_args()
    try:
        rows = read(options.file)
    except (ValueError, OSError) as error:
        sys.exit(f"published: {error}")
    for row in rows:
        image = f" {row.image}" if row.image else ""
        mark = "" if row.status == "verified" else "  (unverified: never shown)"
        print(f"{row.set}{image} x{row.scale}  {row.method}: {row.metric} {row.value:g}  [{row.source}]{mark}")
    print(f"{len(rows)} rows, {sum(row.status == 'verified' for row in rows)} verified")


if __name__ == "__main__":
    main()
