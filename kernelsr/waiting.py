"""How threads wait for their next operation; NumPy's and PyTorch's libraries read it when they are imported."""

from __future__ import annotations

import os

TURNS = "1000"


def wait_briefly() -> None:
    """Have threads sleep soon after an operation, in a program that has imported neither NumPy nor PyTorch yet.

    OpenMP's spin for milliseconds by default, which slows small operations by orders of magnitude where another process keeps
    a core busy. A hundredth of that is longer than most gaps between operations, and cheap (docs/speed.md). What the user has
    set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", TURNS)
    # NumPy's own go on spinning after a product, beside PyTorch's next operations; no product here needs them.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
