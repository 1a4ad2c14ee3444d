"""The prepared scans of a run in memory, so that a training reads and hashes each of them once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.config import PreprocessConfig
from uadcli.data import prepare
from uadcli.data.dataset import Case
from uadcli.data.healthy import healthy_slices
from uadcli.data.prepare import Prepared


class Scans:
    """Prepared scans by their paths, from the folder `cache`; each is read once and held packed, 1.6 MB a scan."""

    def __init__(self, cache: Path, config: PreprocessConfig) -> None:
        self.cache, self.config = cache, config
        self._packed: dict[Path, Mapping[str, Any]] = {}
        self._healthy: dict[tuple[Path, Path | None], NDArray[np.int64]] = {}

    def prepared(self, path: Path) -> Prepared:
        """A scan as `prepare_cached` gives it. Raises what preparing it raises."""
        if path not in self._packed:
            self._packed[path] = prepare.packed_cached(path, self.config, self.cache)
        return prepare.unpacked(self._packed[path])

    def healthy_slices(self, case: Case) -> NDArray[np.int64]:
        """Indices (N,) of the axial slices of a case without lesion (`data.healthy`); its lesion mask is read once."""
        key = case.scan, case.lesions
        if key not in self._healthy:
            self._healthy[key] = healthy_slices(case, self.prepared(case.scan))
        return self._healthy[key]
