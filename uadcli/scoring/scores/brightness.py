"""The scan's own brightness after the post-processing of a residual, without any network.

In T1w a bleeding, fat, melanin or protein is bright, while most lesions are dark, and the learned score hardly sees
what is bright. The median filter removes vessels, whose blood may be bright as well; sinuses, which are wider, lie
where the template has no tissue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uadcli.scoring.scores.base import Array, Evidence, Score

if TYPE_CHECKING:
    from uadcli.config import ScoringConfig

# What is bright on both sides of the brain, such as vessels and membranes after a contrast agent, is a small part of
# it, so the spread is nearer to the maximum than that of a residual. Chosen on the development scans
# (packaging/docs/decisions.md).
OWN_SCALE, SPREAD = 0.75, 0.999


def _filtered(evidence: Evidence, scoring: ScoringConfig) -> Array:
    from uadcli.scoring.residual import postprocess

    return postprocess(evidence.x, evidence.mask, scoring)


def compute(evidence: Evidence) -> Array:
    """The filtered scaled scan (X, Y, Z) in [0, 1] inside the eroded brain mask."""
    return _filtered(evidence, evidence.scoring)


def compared(evidence: Evidence) -> Array:
    """The same after the post-processing of maps that are compared with healthy scans."""
    return _filtered(evidence, evidence.reference_scoring)


SCORES = (
    Score(
        "brightness",
        "the scan's own brightness, filtered",
        compute,
        own_scale=OWN_SCALE,
        spread=SPREAD,
        in_tissue=True,
        behind=compared,
        noise=False,
    ),
)
