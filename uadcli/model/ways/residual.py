"""By the mean residual of healthy scans, which is added to every reconstruction (`scoring.scanner_drift`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from uadcli.arrays import Array, Mask
from uadcli.config import ReconstructionConfig
from uadcli.imaging.slices import GRID_SHAPE, HALF_SHAPE
from uadcli.model.ways.base import Learnt, Way
from uadcli.scoring import scanner_drift
from uadcli.scoring.scanner_drift import Residual

if TYPE_CHECKING:
    from uadcli.model.model import Adaptation, Model


def learn(model: Model, x: Array, mask: Mask, config: ReconstructionConfig) -> Learnt:
    """The smoothed residual of a healthy scan."""
    one = scanner_drift.residual(x, model.reconstruct(x, mask, config), mask)
    return {"total": one.total, "count": one.count}


def adaptation(model: Model, learnt: Sequence[Learnt]) -> Adaptation:
    """The mean of the residuals at each place."""
    from uadcli.model.model import Adaptation

    scans = [Residual(one["total"], one["count"]) for one in learnt]
    return Adaptation("residual", len(scans), drift=scanner_drift.drift(scans, GRID_SHAPE))


WAY = Way(
    "residual",
    learn,
    lambda _: {"total": HALF_SHAPE, "count": HALF_SHAPE},
    adaptation,
    lambda _: True,
    cites=("yeganeh2025latent",),
)
