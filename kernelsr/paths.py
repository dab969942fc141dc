"""Where the configuration lies."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
CONF = (HERE / "conf" if (HERE / "conf").is_dir() else HERE.parent / "conf").resolve()
"""Inside an installed package, or at the top level of a checkout."""
