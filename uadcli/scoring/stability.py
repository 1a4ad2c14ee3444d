"""How much an anomaly map changes with the noise of the reconstruction."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array, Mask
from uadcli.errors import InputError
from uadcli.scoring import metrics


@dataclass(frozen=True)
class Stability:
    """Figures over all pairs of maps; None where undefined, such as the Dice of two empty masks.

    `dice_*` of the masks of findings, `correlation_*` (Pearson) of the scores inside the brain; `volume_ml` and
    `components` are minimum and maximum over the maps.
    """

    draws: int
    dice_mean: float | None
    dice_min: float | None
    correlation_mean: float | None
    correlation_min: float | None
    volume_ml: tuple[float, float]
    components: tuple[int, int]


def uncertainty(maps: Sequence[Array]) -> Array:
    """Standard deviation (X, Y, Z) of the score over at least two maps of one scan (n - 1 in the denominator).

    Raises `InputError` for fewer.
    """
    if len(maps) < 2:
        raise InputError("an uncertainty needs at least two maps", hint="Repeat with another seed.")
    return np.std(np.stack(maps), axis=0, ddof=1, dtype=np.float64).astype(np.float32)


def compare(
    maps: Sequence[Array], masks: Sequence[Mask], brain: Mask, volumes_ml: Sequence[float], counts: Sequence[int]
) -> Stability:
    """Compare maps (X, Y, Z) of one scan, their masks, marked volumes (ml) and numbers of findings.

    Raises `InputError` for fewer than two.
    """
    if len(maps) < 2:
        raise InputError("there is nothing to compare a single map with", hint="Repeat with another seed.")
    pairs = list(itertools.combinations(range(len(maps)), 2))
    overlaps = [metrics.dice(masks[i], masks[j]) for i, j in pairs]
    inside = [m[brain].astype(np.float64) for m in maps]
    alike = [_correlation(inside[i], inside[j]) for i, j in pairs]
    return Stability(
        len(maps),
        *_mean_and_least(overlaps),
        *_mean_and_least(alike),
        (min(volumes_ml), max(volumes_ml)),
        (min(counts), max(counts)),
    )


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.size == 0 or a.std() == 0 or b.std() == 0:
        return metrics.NAN
    return float(np.corrcoef(a, b)[0, 1])


def _mean_and_least(values: Sequence[float]) -> tuple[float | None, float | None]:
    known = [v for v in values if not math.isnan(v)]
    return (float(np.mean(known)), min(known)) if known else (None, None)
