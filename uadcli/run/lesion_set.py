"""A fixed set of synthetic lesions in healthy scans, on which the checkpoint of a reconstruction is chosen.

The error on healthy slices alone prefers a model that copies lesions, too (method 11.3). Nothing here is fitted to a
real lesion, and the scans are those held out for validation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from uadcli.config import PreprocessConfig
from uadcli.imaging import intensity
from uadcli.imaging.slices import to_slices
from uadcli.reconstruction.lesions import paste_lesions

if TYPE_CHECKING:
    from uadcli.run.examples import Healthy

SEED, TRIES = 20, 8
VOLUMES, SLICES = 8, 6  # at most: scans, and slices of each


@dataclass(frozen=True)
class LesionSet:
    """Slices (N, H, W) as uint8 (0..255 for 0..1) with lesions, where these are, and where brain is."""

    slices: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    brain: NDArray[np.bool_]


def lesion_set(healthy: Sequence[Healthy], config: PreprocessConfig) -> LesionSet | None:
    """Paste lesions into up to eight volumes, evenly chosen, and take six slices of each; always the same ones.

    Half the slices of a volume hold a lesion where that is possible. None if no volume has room for a lesion.
    """
    chosen = [healthy[i] for i in sorted({round(i) for i in np.linspace(0, len(healthy) - 1, VOLUMES)})]
    parts = [part for number, one in enumerate(chosen) if (part := _pasted(one, number, config)) is not None]
    if not parts:
        return None
    return LesionSet(*(np.concatenate([getattr(p, name) for p in parts]) for name in ("slices", "truth", "brain")))


def _pasted(one: Healthy, number: int, config: PreprocessConfig) -> LesionSet | None:
    rng = np.random.default_rng([SEED, number])
    allowed = np.zeros_like(one.mask)
    allowed[:, :, one.usable] = True
    for _ in range(TRIES):
        x, truth = paste_lesions(one.data, one.mask, one.kind, rng, allowed)
        truth &= one.mask & allowed
        if truth.any():
            break
    else:
        return None
    x = intensity.scale(x, one.mask, config)
    holds: NDArray[np.bool_] = np.any(truth, axis=(0, 1))
    ill, well = (one.usable[holds[one.usable]], one.usable[~holds[one.usable]])
    first = _evenly(ill, SLICES // 2)
    keep = np.sort(np.concatenate([first, _evenly(well, SLICES - len(first))]))
    whole = LesionSet(np.round(to_slices(x) * 255).astype(np.uint8), to_slices(truth), to_slices(one.mask))
    return replace(whole, slices=whole.slices[keep], truth=whole.truth[keep], brain=whole.brain[keep])


def _evenly(indices: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    if not len(indices):
        return indices
    return indices[np.unique(np.linspace(0, len(indices) - 1, count).round().astype(np.int64))]
