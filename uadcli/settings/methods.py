"""The names of the reconstruction methods: those of the files in `reconstruction/reconstructors/`.

Only the names, so that `--help` and settings know them without loading torch; everything else about a method is in the
record `METHOD` of its file.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "reconstruction" / "reconstructors"
NAMES: tuple[str, ...] = tuple(found.name for found in pkgutil.iter_modules([str(FOLDER)]) if found.name != "base")
