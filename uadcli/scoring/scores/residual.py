"""The residual of scan and reconstruction: absolute, or one of its signs."""

from __future__ import annotations

from collections.abc import Callable

from uadcli.scoring.scores.base import Array, Evidence, Score

PAPER = ("behrendt2025guided",)
# Quantile of the absolute residual in the brain, the scan's own scale: a scan from another scanner has a larger
# residual everywhere. (Half of a bright residual is 0; it has no such scale.) Chosen on the development scans.
OWN_SCALE = 0.75


def _of(kind: str) -> Callable[[Evidence], Array]:
    def compute(evidence: Evidence) -> Array:
        from uadcli.scoring.residual import anomaly_score

        return anomaly_score(evidence.x, evidence.recon, evidence.mask, kind, evidence.scoring)

    return compute


SCORES = (
    Score("absolute", "absolute residual", _of("absolute"), PAPER, aliases=("residual",), own_scale=OWN_SCALE),
    Score("bright", "residual where the scan is brighter than its reconstruction", _of("bright"), PAPER),
    Score("dark", "residual where the scan is darker than its reconstruction", _of("dark"), PAPER),
    Score("bright-weighted", "geometric mean of bright residual and intensity", _of("bright-weighted")),
)
