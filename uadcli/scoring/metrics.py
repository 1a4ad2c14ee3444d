"""Agreement of a map with a lesion mask; every figure is NaN where it is not defined, never 0.

Map and mask have one shape, which may be any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Truth = NDArray[np.bool_]
NAN = float("nan")


def dice(found: Truth, truth: Truth) -> float:
    """2 |A and B| / (|A| + |B|); NaN if both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else NAN


def precision(found: Truth, truth: Truth) -> float:
    """The share of what was found that is true; NaN if nothing was found."""
    total = int(found.sum())
    return int((found & truth).sum()) / total if total else NAN


def recall(found: Truth, truth: Truth) -> float:
    """The share of the truth that was found; NaN if there is no truth."""
    return precision(truth, found)


@dataclass(frozen=True)
class Curve:
    """Counts of voxels at or above each distinct score of a lesion voxel, from the highest score down.

    Other thresholds are unnecessary: between two scores of lesion voxels only false positives change, so neither the
    areas nor the best Dice depend on them. `true` and `false` are counts of voxels, shape (K,).
    """

    thresholds: Scores
    true: NDArray[np.int64]
    false: NDArray[np.int64]
    positives: int
    auroc: float

    @property
    def precision(self) -> NDArray[np.float64]:
        """The share of the marked voxels that are lesion, by threshold (K,)."""
        return self.true / (self.true + self.false)

    @property
    def recall(self) -> NDArray[np.float64]:
        """The share of the lesion voxels that are marked, by threshold (K,)."""
        return self.true / self.positives

    @property
    def average_precision(self) -> float:
        """AUPRC as sum over thresholds of (R_n - R_(n-1)) P_n, ties together; NaN without a positive."""
        if not self.positives:
            return NAN
        return float(np.sum(np.diff(self.recall, prepend=0) * self.precision))

    @property
    def best_dice(self) -> tuple[float, float]:
        """The highest Dice over all thresholds (score >= threshold) and its threshold; NaN without a positive."""
        if not self.positives:
            return NAN, NAN
        values = 2 * self.true / (self.true + self.false + self.positives)
        best = int(np.argmax(values))
        return float(values[best]), float(self.thresholds[best])

    def precision_at(self, recalls: NDArray[np.float64]) -> NDArray[np.float64]:
        """The precision (N,) at the first threshold that reaches each recall (N,); the area is the AUPRC."""
        if not self.positives:
            return np.full(len(recalls), NAN)
        return self.precision[np.searchsorted(self.recall, recalls, side="left")]


def curve(scores: Scores, truth: Truth) -> Curve:
    """The precision-recall curve and the AUROC of a map, by sorting once; both of any one shape, scores finite.

    The AUROC is the probability that a lesion voxel scores above another voxel, ties counting half (Mann and Whitney
    1947), which is the area by the trapezoidal rule; NaN if one class is missing.
    """
    inside, outside = np.sort(scores[truth]), np.sort(scores[~truth])
    thresholds, first = np.unique(inside, return_index=True)
    below = np.searchsorted(outside, thresholds, side="left")
    up_to = np.searchsorted(outside, thresholds, side="right")
    pairs = inside.size * outside.size
    won = float(np.sum(np.diff(first, append=inside.size) * (below + up_to) / 2))
    return Curve(
        thresholds=thresholds[::-1],
        true=(inside.size - first)[::-1],
        false=(outside.size - below)[::-1],
        positives=inside.size,
        auroc=won / pairs if pairs else NAN,
    )


def average_precision(scores: Scores, truth: Truth) -> float:
    """AUPRC as sum over thresholds of (R_n - R_(n-1)) P_n, ties together; NaN without a positive."""
    return curve(scores, truth).average_precision


def best_dice(scores: Scores, truth: Truth) -> tuple[float, float]:
    """The highest Dice over all thresholds (score >= threshold) and its threshold: an oracle, it uses the labels."""
    return curve(scores, truth).best_dice
