"""What the pages of a run and of a sweep share: templates, a policy that shuts the network out, dates, best values."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from kernelsr.charts import MARKS
from kernelsr.figures import ERROR_PEAK
from kernelsr.flags import FLAGS
from kernelsr.pictures import INFERNO
from kernelsr.tables import SHOWN, VARIANCE_AIM, known


def render(template: str, **content: Any) -> str:
    """A page of HTML from a template; text is escaped, and an unknown name is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kernelsr"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        every_column=SHOWN,
        aim=VARIANCE_AIM,
        error_peak=ERROR_PEAK,
        inferno=", ".join(f"#{name}" for name in INFERNO),
        marks=MARKS,
        flags=FLAGS,
        **content,
    )


def script(name: str) -> dict[str, Markup]:
    """A script of the templates' folder, and the policy that lets a page run it and nothing else."""
    text = (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return {"script": Markup(text), "script_policy": Markup(f"'sha256-{digest}'")}


def best_shown(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The best shown value of each metric, as shown; none where fewer than two rows know it."""
    best = {}
    for column in SHOWN:
        values = [row[column.key] for row in rows if known(row.get(column.key))]
        if column.better and len(values) > 1:
            best[column.key] = column.show(max(values) if column.better == "high" else min(values))
    return best


def flag_words(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The flags that some of the rows have, each once."""
    return list(dict.fromkeys(flag for row in rows for flag in (row.get("flags") or "").split()))


def date_of(folder: Path, files: Iterable[Path]) -> str:
    """When a run began, from outputs/<date>/<time>; else when it last wrote one of its files."""
    resolved = folder.resolve()
    if re.fullmatch(r"\d{4}-\d\d-\d\d", resolved.parent.name) and re.fullmatch(r"\d\d-\d\d-\d\d", resolved.name):
        return f"{resolved.parent.name} {resolved.name[:5].replace('-', ':')}"
    times = [path.stat().st_mtime for path in files if path.is_file()]
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(max(times))) if times else ""
