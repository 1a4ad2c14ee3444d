"""How a map was marked, by its sidecar or by the user, and the marks of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Affine, Mask
from uadcli.errors import InputError, UsageError
from uadcli.imaging.volume import stem
from uadcli.scoring.components import label_map
from uadcli.settings.threshold import ThresholdRule


@dataclass(frozen=True)
class Marking:
    """How a map is marked: the threshold (None: unknown) and the minimum volume in mm3.

    With an `extent`, a lower threshold, findings reach to all connected voxels above that. `oracle`: the threshold was
    chosen with lesion labels, and is therefore not used. `strength` is that of the scan, by the sidecar of its map, and
    `file` the mask next to the map, whose findings were decided on the model's grid: thick slices blur their peaks.
    `lost`: the sidecar names a mask that is not there.
    """

    threshold: float | None = None
    min_volume_mm3: float = 0.0
    oracle: bool = False
    extent: float | None = None
    strength: float | None = None
    file: Path | None = None
    lost: bool = False

    def mark(self, scores: NDArray[np.float32], inside: Mask, affine: Affine) -> Mask | None:
        """The voxels of a map (X, Y, Z) that are marked inside a mask; None without a threshold."""
        if self.threshold is None:
            return None
        within = np.where(inside, scores, np.float32(-np.inf))  # float32, as `detect` compares
        return label_map(within, self.threshold, self.min_volume_mm3, affine, self.extent)[0] > 0


def sidecar_marking(path: Path) -> Marking:
    """How the map at `path` was marked: threshold, extent, minimum volume (mm3) and mask, from its sidecar.

    All are unknown if there is no sidecar, or if the JSON file of that name has no threshold and so is not one. Raises
    `InputError` for a file that cannot be read.
    """
    place = path.with_name(f"{stem(path)}.json")
    if not place.exists():
        return Marking()
    try:
        content: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        value, extent = (content.get("threshold", {}).get(key) for key in ("value", "extent"))
        if value is None:
            return Marking()
        strength = content.get("anomaly", {}).get("strength")
        strength = None if strength is None else float(strength)
        smallest = float(content.get("settings", {}).get("scoring", {}).get("min_volume_mm3", 0.0))
        requested = content.get("requested", {}).get("threshold")
        oracle = requested is not None and ThresholdRule.parse(str(requested)).by_labels
        if oracle:
            return Marking(None, smallest, oracle, strength=strength)
        reach, mask = None if extent is None else float(extent), _mask_file(path, content)
        there = mask is not None and mask.exists()
        lost = mask is not None and not there
        return Marking(float(value), smallest, False, reach, strength, mask if there else None, lost)
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError, UsageError) as error:
        raise InputError("is not the sidecar of a map", path=place, hint="Write it again, or remove it.") from error


def _mask_file(path: Path, content: dict[str, Any]) -> Path | None:
    """The mask that was written with the map at `path`, by the content of its sidecar; None if there was none."""
    outputs = content.get("outputs", {})
    if outputs.get("map") != path.name or not outputs.get("mask"):
        return None
    return path.with_name(Path(str(outputs["mask"])).name)
