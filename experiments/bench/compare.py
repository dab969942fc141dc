"""Is commit B faster than A? `python -m experiments.bench.compare A B [step|help] [--pairs 10] [words of probe.py]`.

Both are checked out beside each other and take turns, A B, B A, A B ..., a fresh process each time, so that a machine that
drifts drifts for both. The answer is the ratio of their seconds with a 95 % interval over the pairs: where 1 is outside it,
B is faster or slower.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, stdev
from types import MappingProxyType

from scipy import stats

from experiments.bench import measure

PROBE = Path(__file__).with_name("probe.py")


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """A commit's files in a folder of their own.

    Raises:
        SystemExit: there is no such commit.
    """
    git = ["git", "-C", str(measure.ROOT), "worktree"]
    done = subprocess.run([*git, "add", "--detach", str(folder), commit], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"cannot check out {commit!r}: {done.stderr.strip()}; name a commit, a branch or a tag")
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], capture_output=True)


def seconds(tree: Path, words: Sequence[str], way: Mapping[str, str] = MappingProxyType({})) -> float:
    """What the probe says of a tree, in an environment with these variables."""
    environment = os.environ | {"PYTHONPATH": str(tree), "OMP_WAIT_POLICY": "PASSIVE"} | dict(way)
    done = subprocess.run(
        [sys.executable, str(PROBE), *words], cwd=tree, env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"the benchmark fails in {tree.name}:\n{done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])


def paired(first: Callable[[], float], second: Callable[[], float], pairs: int) -> list[float]:
    """Logarithms of second / first; who begins changes from pair to pair. One pair before them is not counted."""
    ratios = []
    for number in range(pairs + 1):
        if number % 2:
            b = second()
            a = first()
        else:
            a, b = first(), second()
        ratios.append(math.log(b / a))
    return ratios[1:]


def verdict(ratios: Sequence[float]) -> tuple[float, float, float, str]:
    """Ratio of B's to A's seconds, its 95 % interval by Student's t on the logarithms, and what it says."""
    middle = fmean(ratios)
    reach = float(stats.t.ppf(0.975, len(ratios) - 1)) * stdev(ratios) / math.sqrt(len(ratios))
    low, high = math.exp(middle - reach), math.exp(middle + reach)
    word = "faster" if high < 1 else "slower" if low > 1 else "no difference seen"
    return math.exp(middle), low, high, word


def main() -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("commits", nargs=2, metavar=("A", "B"))
    parser.add_argument("what", choices=("step", "help"), nargs="?", default="step")
    parser.add_argument("--pairs", type=int, default=10)
    options, words = parser.parse_known_args()
    if options.pairs < 2:
        parser.error("an interval needs two pairs at least")
    with tempfile.TemporaryDirectory() as folder:
        a, b = (Path(folder) / name for name in "AB")
        with checked_out(options.commits[0], a), checked_out(options.commits[1], b):
            ask = [options.what, *words]
            ratios = paired(lambda: seconds(a, ask), lambda: seconds(b, ask), options.pairs)
    ratio, low, high, word = verdict(ratios)
    first, second = options.commits
    print(f"{' '.join(ask)}: {second} takes {ratio:.3f} of {first}'s time [{low:.3f}, {high:.3f}]: {word}")
    row = {"what": " ".join(ask), "a": first, "b": second, "pairs": options.pairs}
    measure.keep(options.append, [row | {"ratio": round(ratio, 4), "low": round(low, 4), "high": round(high, 4)}])


if __name__ == "__main__":
    main()
