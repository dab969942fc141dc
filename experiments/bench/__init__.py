"""Benchmarks anyone can run: `python -m experiments.bench.NAME [--append CSV]`; docs/speed.md says what each measures."""

import os

# Before NumPy and PyTorch are imported: spinning threads slow one another wherever something else runs too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
