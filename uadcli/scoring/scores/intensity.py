"""The scan's own brightness, a baseline for FLAIR and T2w."""

from __future__ import annotations

from uadcli.scoring.scores.base import Array, Evidence, Score


def compute(evidence: Evidence) -> Array:
    """The scaled scan (X, Y, Z) in [0, 1] inside the brain mask; uses no reconstruction."""
    import numpy as np

    return np.where(evidence.mask, evidence.x, 0).astype(np.float32)


SCORES = (Score("intensity", "the scan's own intensity", compute, noise=False),)
