"""From slices to pseudo-healthy slices: one protocol, one file for each method of the family.

A method is its network, the loss that trains it, and the reconstructor that uses it; a new one is a new file and a
line in `BY_NAME`.
"""

from __future__ import annotations

from pathlib import Path

from uadcli.arrays import Array
from uadcli.config import ModelConfig
from uadcli.errors import WeightsError
from uadcli.reconstruction.model import Network
from uadcli.reconstruction.reconstructors import cddpm, dae, ddpm, diffuse, maediff, pddpm, synomaly, vae
from uadcli.reconstruction.reconstructors.base import Method, Progress, Reconstructor, SliceReconstructor
from uadcli.reconstruction.reconstructors.cddpm import CddpmReconstructor

__all__ = [
    "BY_NAME",
    "Array",
    "CddpmReconstructor",
    "Method",
    "Progress",
    "Reconstructor",
    "SliceReconstructor",
    "build",
    "choose",
]

BY_NAME: dict[str, Method] = {
    module.METHOD.name: module.METHOD for module in (cddpm, ddpm, pddpm, dae, maediff, synomaly, diffuse, vae)
}


def build(config: ModelConfig) -> Network:
    """The untrained network of a configuration's method."""
    return BY_NAME[config.method].network(config)


def choose(wanted: str, trained: str, path: Path | None = None) -> Method:
    """The method `wanted` (empty: `trained`) on weights that were trained for `trained`.

    Raises `WeightsError` if they were not trained for it; `path` names them.
    """
    method = BY_NAME[wanted or trained]
    if method.name != trained and trained not in method.runs_on:
        raise WeightsError(
            f"was trained for {trained}, which does not serve {method.name}",
            path=path,
            hint=f"Train it: uad train DATA --out RUN --method {method.name}.",
        )
    return method
