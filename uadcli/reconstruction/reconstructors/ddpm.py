"""DDPM: the diffusion model without a condition (Ho et al. 2020), with simplex noise (AnoDDPM, Wyatt et al. 2022).

The cDDPM without its encoder: the same loss and the same one-step reconstructions, averaged over the levels.
"""

from __future__ import annotations

from uadcli.reconstruction.model import ConditionedDiffusion
from uadcli.reconstruction.reconstructors import cddpm
from uadcli.reconstruction.reconstructors.base import DIFFUSION, Method

METHOD = Method(
    "ddpm",
    "diffusion model (DDPM)",
    ConditionedDiffusion,
    cddpm.loss,
    cddpm.CddpmReconstructor,
    cites=DIFFUSION,
)
