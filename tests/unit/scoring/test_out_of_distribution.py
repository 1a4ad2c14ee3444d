"""The distance of condition vectors from those of training scans, by its definition."""

from __future__ import annotations

import numpy as np
import pytest

from uadcli.scoring import out_of_distribution as cloud
from uadcli.scoring.out_of_distribution import MARGIN, SHRINKAGE, Part

SLICES, SIZE = 20, 5


def scan(seed: int, first: int = 4, last: int = 16, shift: float = 0.0) -> Part:
    """Vectors that drift along the slices, and vary along some axes more than along others."""
    index = np.arange(first, last)
    noise = np.random.default_rng(seed).normal(0, 1, (len(index), SIZE)) * np.arange(1, SIZE + 1)
    return (noise + 0.3 * index[:, None] + shift).astype(np.float32), index


def test_the_distance_is_that_of_mahalanobis_with_the_shrunk_covariance() -> None:
    training, new = [scan(seed) for seed in range(30)], scan(99, shift=2.0)
    mean, whitening = cloud.fit_cloud(training, SLICES)
    rest = np.concatenate([vectors - mean[index] for vectors, index in training]).astype(np.float64)
    covariance = rest.T @ rest / len(rest)
    shrunk = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.trace(covariance) / SIZE * np.eye(SIZE)
    delta = (new[0] - mean[new[1]]).astype(np.float64)
    expected = np.sqrt(np.einsum("nd,nd->n", delta, np.linalg.solve(shrunk, delta.T).T) / SIZE)
    np.testing.assert_allclose(cloud.slice_distances(mean, whitening, new), expected, rtol=0.01)  # float16


def test_the_limit_lies_beyond_the_farthest_held_out_scan() -> None:
    held_out = [scan(seed, shift=shift) for seed, shift in ((50, 0.0), (51, 6.0), (52, 1.0))]
    gate = cloud.fit([scan(seed) for seed in range(30)], held_out, SLICES)
    each = [cloud.distance(gate.mean, gate.whitening, one) for one in held_out]
    assert gate.limit == pytest.approx(MARGIN * each[1])
    assert each[1] > 1.5 * max(each[0], each[2])


@pytest.mark.parametrize(("last", "known"), [(26, True), (40, False)])
def test_a_distance_needs_half_of_the_slices_where_the_training_scans_have_brain(last: int, known: bool) -> None:
    mean, whitening = cloud.fit_cloud([scan(seed) for seed in range(30)], 40)
    part = scan(60, 8, last)
    with_brain = np.isfinite(cloud.slice_distances(mean, whitening, part))
    assert 0 < with_brain.sum() <= len(with_brain)
    assert (2 * with_brain.sum() >= len(with_brain)) == known
    assert (cloud.distance(mean, whitening, part) is not None) == known
