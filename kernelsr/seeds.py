"""Seeds from names, so that what is drawn depends on neither order nor parallelism."""

from __future__ import annotations

import hashlib

import torch


def seed_for(seed: int, *names: str) -> int:
    """A seed from a seed and names, the same on every machine, so that results never depend on order or parallelism."""
    digest = hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *names: str) -> torch.Generator:
    """A CPU generator seeded by ``seed_for``: draw there, then move, so that every device sees the same numbers."""
    return torch.Generator().manual_seed(seed_for(seed, *names))
