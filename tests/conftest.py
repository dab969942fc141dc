"""The repository's root on the path, for `experiments` is no installed package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
