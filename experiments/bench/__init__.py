"""Benchmarks anyone can run: `python -m experiments.bench.NAME [--append CSV]`; docs/speed.md says what each measures."""

from kernelsr.waiting import wait_briefly

wait_briefly()  # as `python run.py` does
