"""Agreement of a map with a lesion mask; every figure is NaN where it is not defined, never 0."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Truth = NDArray[np.bool_]


def dice(found: Truth, truth: Truth) -> float:
    """2 |A and B| / (|A| + |B|); NaN if both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else float("nan")


def _sweep(scores: Scores, truth: Truth) -> tuple[NDArray[np.int64], NDArray[np.int64], Scores]:
    """True and false positives at each distinct score as threshold, from the highest down, and those scores."""
    flat, positive = scores.ravel(), truth.ravel()
    order = np.argsort(flat, kind="stable")[::-1]
    flat, positive = flat[order], positive[order]
    last = np.append(np.flatnonzero(np.diff(flat)), flat.size - 1)
    true = np.cumsum(positive)[last]
    return true, 1 + last - true, flat[last]


def average_precision(scores: Scores, truth: Truth) -> float:
    """AUPRC as sum over thresholds of (R_n - R_(n-1)) P_n, ties together; NaN without a positive."""
    if not truth.any():
        return float("nan")
    true, false, _ = _sweep(scores, truth)
    return float(np.sum(np.diff(np.concatenate([[0], true / true[-1]])) * true / (true + false)))


def auroc(scores: Scores, truth: Truth) -> float:
    """Area under the ROC curve by the trapezoidal rule; NaN if one class is missing."""
    if not truth.any() or truth.all():
        return float("nan")
    true, false, _ = _sweep(scores, truth)
    x, y = np.concatenate([[0], false / false[-1]]), np.concatenate([[0], true / true[-1]])
    return float(np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2)


def best_dice(scores: Scores, truth: Truth) -> tuple[float, float]:
    """The highest Dice over all thresholds (score >= threshold) and its threshold: an oracle, it uses the labels."""
    if not truth.any():
        return float("nan"), float("nan")
    true, false, thresholds = _sweep(scores, truth)
    values = 2 * true / (true + false + true[-1])
    best = int(np.argmax(values))
    return float(values[best]), float(thresholds[best])
