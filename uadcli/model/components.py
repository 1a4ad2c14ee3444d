"""Components of an anomaly map above a threshold, and the strength of a map; volumes are in the patient's space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.config import DetectConfig
from uadcli.data.prepare import Prepared
from uadcli.imaging import template
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.scoring.calibration import strength
from uadcli.scoring.components import Component, components


def find(
    anomaly_map: Array, threshold: float, prepared: Prepared, config: DetectConfig, extent: float | None = None
) -> tuple[NDArray[np.uint8], list[Component]]:
    """Labels (96, 96, 80) and components above the threshold; the minimum volume is in the patient's space.

    With an `extent`, components reach to all connected voxels above that (`scoring.components`).
    """
    smallest = config.scoring.min_volume_mm3 / prepared.jacobian
    return components(anomaly_map, threshold, smallest, GRID_AFFINE, template.regions(), extent)


def volume_ml(table: list[Component], prepared: Prepared) -> float:
    """The volume of all components in the patient's space, in ml."""
    return sum(c.volume_mm3 for c in table) * prepared.jacobian / 1e3


def strength_of(anomaly_map: Array, prepared: Prepared, config: DetectConfig) -> float:
    """The strength of a map (96, 96, 80; see `scoring.calibration.strength`), with the component filter of `find`."""
    return strength(anomaly_map, config.scoring.min_volume_mm3 / prepared.jacobian, GRID_AFFINE)
