"""The scan's brightness, or in T1w its darkness, in robust standard deviations of the brain, without any network.

It is not clipped, filtered or eroded, which would remove lesions of a voxel or two.
"""

from __future__ import annotations

import math

from uadcli.scoring.scores.base import Array, Evidence, Score

# Of its deviations from healthy scans, which differ in noise and contrast; a lesion of usual size hardly changes it.
# Chosen on the development scans (packaging/docs/decisions.md).
OWN_SCALE = -0.75


def signed(evidence: Evidence) -> Array:
    """How far intensities (X, Y, Z) are towards those of lesions; negative on the other side."""
    return evidence.robust_z


def compute(evidence: Evidence) -> Array:
    """How far intensities (X, Y, Z) are towards those of lesions; 0 on the other side and outside the brain."""
    import numpy as np

    return np.where(evidence.mask, np.maximum(evidence.robust_z, 0), 0).astype(np.float32)


SCORES = (
    Score(
        "robust-z",
        "the scan's own intensity without a ceiling, in robust deviations",
        compute,
        noise=False,
        own_scale=OWN_SCALE,
        behind=signed,
        by_voxel=True,
        highest=math.inf,
    ),
)
