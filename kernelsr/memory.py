"""Freed memory, kept for the next step."""

from __future__ import annotations

import ctypes

# Parameters of the GNU C library's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Have this process keep what it frees; True where the C library can, False (and nothing done) elsewhere.

    By default the GNU C library takes large blocks from the system and gives them back at once, so that each step of a
    network pays for its tens of thousands of fresh pages again: a fifth of a DIP step on a CPU. The process
    stays as large as its largest step until it ends.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # no C library of that kind
        return False
    # Large blocks from the heap, and the heap's end never returned.
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
