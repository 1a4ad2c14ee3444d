"""The learned score: a network trained on synthetic lesions in healthy scans."""

from __future__ import annotations

import math

from uadcli.scoring.scores.base import Array, Evidence, Score

PAPERS = ("behrendt2024combining", "marimont2024disyre", "he2013guided")
LOWEST, HIGHEST = 1e-4, 1 - 1e-4  # probabilities beyond which log-odds do not tell cases apart


def compute(evidence: Evidence) -> Array:
    """The probability of abnormality (X, Y, Z) in [0, 1], smoothed along slices and guided by the scan."""
    return evidence.probability


def log_odds(evidence: Evidence) -> Array:
    """The log-odds of the probability (X, Y, Z) above those of `LOWEST`.

    A tail of healthy voxels that ends at a probability of .1 cannot be continued to .9 by a straight line; that of the
    log-odds, which have no upper end, can.
    """
    import numpy as np

    p = np.clip(evidence.probability, LOWEST, HIGHEST)
    return np.asarray(np.log(p / (1 - p)) - _logit(LOWEST), dtype=np.float32).clip(0)


def _logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


SCORES = (
    Score("siamese", "learned probability of abnormality", compute, PAPERS, learned=True),
    Score(
        "log-odds",
        "log-odds of the learned probability of abnormality",
        log_odds,
        PAPERS,
        learned=True,
        highest=_logit(HIGHEST) - _logit(LOWEST),
    ),
)
