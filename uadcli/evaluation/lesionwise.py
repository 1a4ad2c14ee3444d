"""Lesion-wise comparison: which lesions were detected, and which findings are false."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadcli.scoring.components import label_components

BINS_ML = (0.1, 1.0, 10.0)
BIN_NAMES = ("<0.1", "0.1-1", "1-10", ">=10")  # ml


@dataclass(frozen=True)
class Lesions:
    """The lesions of a scan, largest first: volume in ml and whether it was found; and the number of false findings."""

    volumes_ml: tuple[float, ...]
    found: tuple[bool, ...]
    false_positives: int

    @property
    def sensitivity(self) -> float:
        """The share of lesions detected; NaN without a lesion."""
        return sum(self.found) / len(self.found) if self.found else float("nan")

    @property
    def f1(self) -> float:
        """2 TP / (2 TP + FP + FN): TP and FN count lesions, FP findings; NaN if there is neither."""
        true = sum(self.found)
        total = true + len(self.found) + self.false_positives
        return 2 * true / total if total else float("nan")


def size_bin(volume_ml: float) -> int:
    """The index in `BIN_NAMES` of a lesion's volume; a bin includes its lower end."""
    return bisect_right(BINS_ML, round(volume_ml, 9))


def compare_lesions(found: NDArray[np.bool_], truth: NDArray[np.bool_], affine: NDArray[np.float64]) -> Lesions:
    """Compare two masks (X, Y, Z) by their 26-connected components.

    A lesion is found if at least one of its voxels is marked; a finding is false if it contains no lesion voxel.
    """
    lesions, sizes = label_components(truth, 0, affine)
    findings, count = label_components(found, 0, affine)
    hit = set(np.unique(lesions[found]).tolist())
    true = set(np.unique(findings[truth]).tolist()) - {0}
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1e3
    return Lesions(
        volumes_ml=tuple(round(size * voxel_ml, 9) for size in sizes),
        found=tuple(index in hit for index in range(1, len(sizes) + 1)),
        false_positives=len(count) - len(true),
    )
