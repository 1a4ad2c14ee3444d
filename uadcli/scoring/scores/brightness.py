"""The scan's own brightness after the post-processing of a residual, without any network.

In T1w a bleeding, fat, melanin or protein is bright, while most lesions are dark, and the learned score hardly sees
what is bright. The median filter removes vessels, whose blood may be bright as well.
"""

from __future__ import annotations

from uadcli.scoring.scores.base import Array, Evidence, Score

# What is bright on both sides of the brain, such as vessels and membranes after a contrast agent, is a small part of
# it, so the spread is nearer to the maximum than that of a residual. Chosen on the development scans
# (packaging/docs/decisions.md).
OWN_SCALE, SPREAD = 0.75, 0.999


def compute(evidence: Evidence) -> Array:
    """The filtered scaled scan (X, Y, Z) in [0, 1] inside the eroded brain mask."""
    from uadcli.scoring.residual import postprocess

    return postprocess(evidence.x, evidence.mask, evidence.scoring)


def compared(evidence: Evidence) -> Array:
    """The same after the post-processing of maps that are compared with healthy scans."""
    from uadcli.scoring.residual import postprocess

    return postprocess(evidence.x, evidence.mask, evidence.reference_scoring)


SCORES = (
    Score(
        "brightness",
        "the scan's own brightness, filtered",
        compute,
        own_scale=OWN_SCALE,
        spread=SPREAD,
        behind=compared,
        noise=False,
    ),
)
