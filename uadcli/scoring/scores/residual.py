"""The residual of scan and reconstruction: absolute, or one of its signs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from uadcli.scoring.scores.base import Array, Evidence, Score

PAPER = ("behrendt2025guided",)
# Quantile of the absolute residual in the brain, the scan's own scale: a scan from another scanner has a larger
# residual everywhere. (Half of a bright residual is 0; it has no such scale.) Chosen on the development scans.
OWN_SCALE = 0.75


def _map(kind: str, *, compared: bool = False) -> Callable[[Evidence], Array]:
    """The map of a residual; or the one `compared` with healthy scans, whose reconstruction may have the shading."""

    def compute(evidence: Evidence) -> Array:
        from uadcli.scoring.residual import anomaly_score

        recon = evidence.shaded if compared else evidence.recon
        scoring = evidence.reference_scoring if compared else evidence.scoring
        return anomaly_score(evidence.x, recon, evidence.mask, kind, scoring)

    return compute


def _score(kind: str, title: str, works: tuple[str, ...] = PAPER, **more: Any) -> Score:
    return Score(kind, title, _map(kind), works, behind=_map(kind, compared=True), **more)


SCORES = (
    _score("absolute", "absolute residual", aliases=("residual",), own_scale=OWN_SCALE),
    _score("bright", "residual where the scan is brighter than its reconstruction"),
    _score("dark", "residual where the scan is darker than its reconstruction"),
    _score("bright-weighted", "geometric mean of bright residual and intensity", ()),
)
