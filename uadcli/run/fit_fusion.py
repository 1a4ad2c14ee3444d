"""How much the learned score weighs in the fusion: fitted on synthetic lesions in healthy scans.

No label of a scan takes part, at most masks as shapes of the synthetic lesions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uadcli.config import DetectConfig
from uadcli.reconstruction.weights import Weights
from uadcli.run.dataset import evenly
from uadcli.run.examples import Healthy
from uadcli.run.lesion_set import paste
from uadcli.run.score import learned_score, reconstruct
from uadcli.scoring.fusion import fused_scores
from uadcli.scoring.metrics import average_precision

POWERS = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.0)
KIND = "fusion-absolute"  # the lesions are of both signs
DRAWS, SEED = 2, 40
MOST = 20  # scans
# Of powers whose AUPRC is this near to the best, the smallest: synthetic lesions are what the learned score was trained
# on, and a gentler power leaves more to the residual in lesions that it does not know.
ALIKE = 0.98


def precision_by_power(
    loaded: Weights, healthy: Sequence[Healthy], config: DetectConfig, shapes: Sequence[Path] = ()
) -> dict[float, float]:
    """The mean AUPRC of the fused score r p^a over scans with pasted lesions, by a; empty if no scan has room for one.

    `healthy` are scans that were not trained on, of which up to 20, evenly chosen, get lesions twice each; only where
    these could lie counts. With `shapes`, masks in MNI space, each lesion has one of them; else they are made up like
    those that trained the learned score, which then does better than on others.
    """
    found: list[list[float]] = []
    for number in evenly(range(len(healthy)), MOST):
        one = healthy[number]
        for draw in range(DRAWS):
            pasted = paste(one, np.random.default_rng([SEED, number, draw]), config.preprocess, shapes)
            if pasted is None:
                continue
            recon = reconstruct(loaded, pasted.x, one.mask, config.reconstruction)
            learned = learned_score(loaded, pasted.x, recon, one.mask, config)
            maps = fused_scores(pasted.x, recon, learned, one.mask, KIND, POWERS)
            found.append([average_precision(m[pasted.allowed], pasted.truth[pasted.allowed]) for m in maps])
    return dict(zip(POWERS, np.mean(found, axis=0).tolist(), strict=True)) if found else {}


def with_best_power(loaded: Weights, precisions: dict[float, float]) -> Weights:
    """The weights with the best of the powers on their card, of like ones the smallest; unchanged if there is none."""
    if not precisions:
        return loaded
    highest = max(precisions.values())
    return with_power(loaded, min(power for power, value in precisions.items() if value >= ALIKE * highest))


def with_power(loaded: Weights, power: float) -> Weights:
    """The weights with a power of the learned score on their card."""
    return dataclasses.replace(loaded, card=dataclasses.replace(loaded.card, fusion_power=power))
