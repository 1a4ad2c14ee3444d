"""Products of a residual and a power of the learned probability."""

from __future__ import annotations

from collections.abc import Callable

from uadcli.scoring.scores.base import Array, Evidence, Score
from uadcli.scoring.scores.residual import PAPER
from uadcli.scoring.scores.siamese import PAPERS


def _of(kind: str) -> Callable[[Evidence], Array]:
    def compute(evidence: Evidence) -> Array:
        from uadcli.scoring.fusion import fused_score

        e = evidence
        return fused_score(e.x, e.recon, e.probability, e.mask, kind, e.fusion_power)

    return compute


ABSOLUTE, BRIGHT = "fusion-absolute", "fusion-bright"
SCORES = (
    Score(ABSOLUTE, "absolute residual times learned probability", _of(ABSOLUTE), (*PAPERS, *PAPER), learned=True),
    Score(BRIGHT, "bright-weighted residual times learned probability", _of(BRIGHT), PAPERS, learned=True),
)
