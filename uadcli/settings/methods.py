"""The names of the reconstruction methods: each is a file in `reconstruction/reconstructors/`, and nothing else.

The names alone are here, so that `--help` and the settings know them without loading torch; what a method is stands in
its file, as the record `METHOD`.
"""

from __future__ import annotations

import pkgutil
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "reconstruction" / "reconstructors"
NAMES: tuple[str, ...] = tuple(found.name for found in pkgutil.iter_modules([str(FOLDER)]) if found.name != "base")
