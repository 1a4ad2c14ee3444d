"""The residual of scan and reconstruction: absolute, or one of its signs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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


def _behind(kind: str) -> Callable[[Evidence], Array]:
    """The map that is compared with healthy scans: without the shading of the scan."""

    def compute(evidence: Evidence) -> Array:
        from uadcli.scoring.residual import anomaly_score

        return anomaly_score(evidence.x, evidence.shaded, evidence.mask, kind, evidence.reference_scoring)

    return compute


def _score(kind: str, title: str, works: tuple[str, ...] = PAPER, **more: Any) -> Score:
    return Score(kind, title, _of(kind), works, behind=_behind(kind), **more)


SCORES = (
    _score("absolute", "absolute residual", aliases=("residual",), own_scale=OWN_SCALE),
    _score("bright", "residual where the scan is brighter than its reconstruction"),
    _score("dark", "residual where the scan is darker than its reconstruction"),
    _score("bright-weighted", "geometric mean of bright residual and intensity", ()),
)
