"""The severity axis: the direction in the latent space of the condition encoder that grows with pasted lesions.

After Keicher et al. 2023 (arXiv 2303.12031), who grade fractures by regression in the latent space of a diffusion
autoencoder. They have annotated grades; here no scan is annotated, and the severity is that of synthetic lesions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadcli.scoring.out_of_distribution import Floats, Gate, Part

# Of the ridge regression, per changed slice: about the variance of held-out healthy slices along an axis of the
# out-of-distribution check (.08 to .09), which its shrinkage makes smaller than 1.
PENALTY = 0.1


@dataclass(frozen=True)
class Change:
    """What lesions pasted into a brain changed: condition vectors (N, d) with lesions minus those without them, of the
    same slices, and the `load` (N,) of the lesions in each slice, in ml times the change of intensity in 0..1."""

    brain: int
    difference: Floats
    load: Floats


@dataclass(frozen=True)
class Axis:
    """The `direction` (d,) that estimates the load of a slice from its deviation from the `mean` (Z, d) of healthy
    training slices at its place; NaN where no training scan has brain."""

    mean: Floats
    direction: Floats

    def of_slices(self, part: Part) -> NDArray[np.float64]:
        """The severity of each slice (N,), an estimate of its load; NaN where there is no mean."""
        vectors, index = part
        return np.asarray((vectors - self.mean[index]).astype(np.float64) @ self.direction)

    def of_scan(self, part: Part) -> float | None:
        """The severity of a scan: the mean over its slices. None if fewer than half of them have one."""
        each = self.of_slices(part)
        known = each[np.isfinite(each)]
        return float(known.mean()) if 2 * len(known) >= len(each) > 0 else None

    def of_change(self, change: Change) -> float:
        """How far lesions move the severity of a scan."""
        return float((change.difference.astype(np.float64) @ self.direction).mean())


def fit(changes: Sequence[Change], gate: Gate) -> Axis:
    """The axis by ridge regression of the load on the changes, in which anatomy cancels. Raises `ValueError` for none.

    In the coordinates of the out-of-distribution check healthy slices differ alike in all directions, so that the
    penalty is as many healthy slices of load 0: the axis avoids the directions in which healthy brains differ.
    """
    if not changes:
        raise ValueError("there is no change to fit a severity axis to")
    white = np.concatenate([one.difference for one in changes]).astype(np.float64) @ gate.whitening
    load = np.concatenate([one.load for one in changes])
    penalty = PENALTY * len(load) * np.eye(white.shape[1])
    return Axis(gate.mean, gate.whitening @ np.linalg.solve(white.T @ white + penalty, white.T @ load))


def leave_one_out(changes: Sequence[Change], gate: Gate) -> dict[int, Axis]:
    """For each brain, the axis fitted to the other brains. Raises `ValueError` for fewer than two brains."""
    brains = sorted({one.brain for one in changes})
    return {brain: fit([one for one in changes if one.brain != brain], gate) for brain in brains}
