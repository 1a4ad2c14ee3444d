"""The learned score: a network trained on synthetic lesions in healthy scans."""

from __future__ import annotations

from uadcli.scoring.scores.base import Array, Evidence, Score

PAPERS = ("behrendt2024combining", "marimont2024disyre")


def compute(evidence: Evidence) -> Array:
    """The probability of abnormality (X, Y, Z) in [0, 1], smoothed along slices."""
    return evidence.probability


SCORES = (Score("siamese", "learned probability of abnormality", compute, PAPERS, learned=True),)
