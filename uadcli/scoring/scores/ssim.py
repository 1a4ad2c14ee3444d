"""Structural dissimilarity of scan and reconstruction, over an ensemble of window widths."""

from __future__ import annotations

from uadcli.scoring.scores.base import Array, Evidence, Score


def compute(evidence: Evidence) -> Array:
    """1 - SSIM over several widths (X, Y, Z), in [0, 2], post-processed like the residual."""
    from uadcli.scoring.residual import postprocess
    from uadcli.scoring.ssim import ssim_score

    e = evidence
    return postprocess(ssim_score(e.x, e.recon, e.mask), e.mask, e.scoring)


CITES = ("behrendt2024ensembled", "wang2004image")
SCORES = (Score("ssim", "structural dissimilarity", compute, CITES, highest=2.0),)
