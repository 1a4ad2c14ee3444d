"""By a few low-rank steps on the scan itself, before it is reconstructed (`reconstruction.low_rank`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from uadcli.arrays import Array, Mask
from uadcli.config import ReconstructionConfig
from uadcli.model.ways.base import OfScan, slices_of

if TYPE_CHECKING:
    from uadcli.model.model import Adaptation, Model
    from uadcli.reconstruction.model import ConditionedDiffusion
    from uadcli.reconstruction.reconstructors import Method


def adaptation(model: Model, x: Array, mask: Mask, config: ReconstructionConfig) -> Adaptation:
    """A network adapted to the scan."""
    from uadcli.model.model import Adaptation
    from uadcli.reconstruction import low_rank
    from uadcli.reconstruction.fitting import Steps

    network = cast("ConditionedDiffusion", model.network.to(model.device))
    steps = Steps(model.levels(config), config.seed, low_rank.STEPS)
    return Adaptation("low-rank", network=low_rank.steered(network, slices_of(x, mask), steps))


def serves(method: Method) -> bool:
    """Whether a method reconstructs whole slices by the denoising network that the steps change."""
    from uadcli.reconstruction.model import ConditionedDiffusion

    return method.network is ConditionedDiffusion


WAY = OfScan("low-rank", adaptation, serves, cites=("barbano2025steerable",))
