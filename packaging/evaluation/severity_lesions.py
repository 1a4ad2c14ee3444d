"""Synthetic lesions of growing contrast in healthy scans, to which the severity axis is fitted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from severity import Change

from uadcli.config import PreprocessConfig
from uadcli.data.dataset import evenly
from uadcli.imaging import intensity
from uadcli.model.out_of_distribution import vectors
from uadcli.reconstruction.model import Network
from uadcli.training.examples.pasted_lesions import paste
from uadcli.training.examples.synthetic import Healthy

SEED, MOST = 50, 20  # scans
LESIONS, OFTEN = 60, 7  # to paste in total; at most in each scan
STEPS = (1 / 3, 2 / 3, 1.0)  # of the contrast of each lesion
VOXEL_ML = 8e-3  # on the model's grid


def changes_of(network: Network, healthy: Sequence[Healthy], config: PreprocessConfig) -> list[Change]:
    """What lesions of growing contrast change in up to twenty healthy scans, as numbered in `healthy`.

    Lesions are synthetic and differ in volume; each gives three changes in a row, with a third, two thirds and all of
    its contrast. Of a scan only usable slices are taken; without room for a lesion it gives none. The network needs an
    encoder.
    """
    chosen = evenly(range(len(healthy)), MOST)
    draws = min(OFTEN, math.ceil(LESIONS / max(1, len(chosen))))
    seeds = {number: [[SEED, number, draw] for draw in range(draws)] for number in chosen}
    return [one for number in chosen for one in _changes(network, healthy[number], seeds[number], config)]


def _changes(network: Network, one: Healthy, seeds: Sequence[list[int]], config: PreprocessConfig) -> Iterator[Change]:
    clean = intensity.scale(one.data, one.mask, config)
    before = vectors(network, clean, one.usable)
    for seed in seeds:
        pasted = paste(one, np.random.default_rng(seed), config, ())
        if pasted is None:
            continue
        for step in STEPS:
            x = (clean + step * (pasted.x - clean)).astype(np.float32)
            load = VOXEL_ML * np.where(pasted.truth, np.abs(x - clean), 0).sum(axis=(0, 1))
            yield Change(seed[1], vectors(network, x, one.usable) - before, load[one.usable])
