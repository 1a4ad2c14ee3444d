"""The Mahalanobis distance of the scan from several reconstructions of it."""

from __future__ import annotations

from uadcli.scoring.scores.base import Array, Evidence, Score

CITES = ("behrendt2024leveraging", "wang2004image")


def compute(evidence: Evidence) -> Array:
    """The published map (X, Y, Z), without erosion and median; comparable only within a scan."""
    from uadcli.scoring.mahalanobis import mahalanobis_score

    return mahalanobis_score(evidence.x, evidence.draws, evidence.mask)


SCORES = (
    Score(
        "mahalanobis",
        "Mahalanobis distance from several reconstructions",
        compute,
        CITES,
        costly=True,
        draws=True,
        highest=2.0,
    ),
)
