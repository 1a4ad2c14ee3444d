"""By a drift of the condition vector, estimated from healthy scans (`reconstruction.condition_drift`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from uadcli.arrays import Array, Mask
from uadcli.config import ReconstructionConfig
from uadcli.model.ways.base import Learnt, Way, slices_of

if TYPE_CHECKING:
    from uadcli.model.model import Adaptation, Model
    from uadcli.reconstruction.model import ConditionedDiffusion


def learn(model: Model, x: Array, mask: Mask, config: ReconstructionConfig) -> Learnt:
    """The drift (d,) of the condition vector with which a healthy scan is reconstructed best."""
    from uadcli.reconstruction import condition_drift
    from uadcli.reconstruction.fitting import Steps

    network, steps = model.network.to(model.device), Steps(model.levels(config), config.seed)
    return {"shift": condition_drift.estimate(network, slices_of(x, mask), steps)}


def adaptation(model: Model, learnt: Sequence[Learnt]) -> Adaptation:
    """The mean of the drifts, added to every condition vector."""
    from uadcli.model.model import Adaptation
    from uadcli.reconstruction import condition_drift

    shift = np.mean([one["shift"] for one in learnt], axis=0)
    network = cast("ConditionedDiffusion", model.network)  # of every conditioned method
    return Adaptation("condition", len(learnt), network=condition_drift.shifted(network, shift))


WAY = Way(
    "condition",
    learn,
    lambda model: {"shift": (model.network.config.encoder.condition,)},
    adaptation,
    lambda method: method.conditioned,
    cites=("yeganeh2025latent",),
)
