"""How rare several scores are among healthy voxels: the default of a calibrated model."""

from __future__ import annotations

import math

from uadcli.scoring.scores.base import Array, Evidence, Score
from uadcli.scoring.scores.residual import PAPER
from uadcli.scoring.scores.siamese import PAPERS

NAME = "fisher"


def compute(evidence: Evidence) -> Array:
    """The joined rarity of the scores that the model joins in this contrast (`fusion.fisher_score`)."""
    from uadcli.scoring.fusion import fisher_score

    parts = [(evidence.score(name), tail, share) for name, tail, share in evidence.parts(NAME)]
    return fisher_score(parts, evidence.mask, evidence.likely)


SCORES = (
    Score(
        NAME,
        "calibrated mean of how rare several scores are in healthy scans",
        compute,
        ("fisher1932statistical", "good1955weighted", *PAPERS, *PAPER),
        aliases=("fusion",),
        learned=True,
        normalised=True,
        joined=True,
        highest=math.inf,
    ),
)
