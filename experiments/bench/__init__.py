"""Benchmarks anyone can run: `python -m experiments.bench.NAME [--append CSV]`; docs/speed.md says what each measures."""

import os

# Before NumPy and PyTorch are imported, and as `python run.py` does: threads that spin for long slow one another wherever
# something else runs too.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
