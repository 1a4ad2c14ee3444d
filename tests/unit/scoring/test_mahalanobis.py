"""The Mahalanobis score: against the dense inverse, slice by slice."""

from __future__ import annotations

import numpy as np
import pytest

from uadcli.errors import InputError
from uadcli.scoring.mahalanobis import RIDGE, mahalanobis, mahalanobis_score, slice_distance, weighted_map


def draws(n=10, shape=(12, 11, 4), seed=0):
    """A scan and `n` reconstructions of it that share a smooth error."""
    rng = np.random.default_rng(seed)
    x = rng.random(shape).astype(np.float32)
    recons = x + 0.1 * rng.normal(size=(n, *shape)) + 0.1 * rng.normal(size=(n, 1, 1, shape[2]))
    return x, recons.astype(np.float32)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_slice_equals_the_dense_inverse(n):
    rng = np.random.default_rng(n)
    x, recons = rng.random(300), rng.random((n, 300))
    centred = recons - recons.mean(axis=0)
    covariance = centred.T @ centred / (n - 1) + RIDGE * np.eye(300)
    delta = x - recons.mean(axis=0)
    shares = delta * (np.linalg.inv(covariance) @ delta)
    assert slice_distance(x, recons) == pytest.approx(np.sqrt(np.maximum(shares, 0)), abs=1e-8)
    assert shares.sum() == pytest.approx(delta @ np.linalg.solve(covariance, delta))
    assert (shares < 0).any()  # so that the cut at 0 is tried


def test_one_pixel_by_hand():
    # variance 0.02, ridge 0.01, distance 0.3: 0.3 / sqrt(0.03)
    found = slice_distance(np.array([0.5]), np.array([[0.1], [0.3]]))
    assert found == pytest.approx([0.3 / np.sqrt(0.02 + RIDGE)])


def test_a_volume_is_its_axial_slices_inside_the_mask():
    x, recons = draws()
    mask = np.random.default_rng(1).random(x.shape) < 0.6
    mask[..., 2] = False
    found = mahalanobis(x, recons, mask)
    assert found.dtype == np.float32
    assert not found[~mask].any()
    for z in (0, 1, 3):
        inside = mask[..., z]
        assert found[..., z][inside] == pytest.approx(slice_distance(x[..., z][inside], recons[:, inside, z]), rel=1e-5)


def test_what_varies_among_reconstructions_counts_less():
    rng = np.random.default_rng(0)
    recons = 0.5 + np.concatenate([rng.normal(0, 0.01, (10, 20)), rng.normal(0, 0.5, (10, 20))], axis=1)
    found = slice_distance(recons.mean(axis=0) + 0.2, recons)
    assert found[:20].mean() > 1.5 * found[20:].mean()


def test_the_score_is_highest_in_a_lesion():
    x, recons = draws(shape=(30, 30, 16))
    x[10:16, 10:16, 6:10] += 1.5
    mask = np.ones(x.shape, bool)
    mask[:2] = False
    score = mahalanobis_score(x, recons, mask)
    assert score[11:15, 11:15, 7:9].mean() > 5 * score[20:, 20:].mean()
    assert not score[~mask].any()
    assert (score >= 0).all()


def test_the_map_is_scaled_to_one_smoothed_and_weighted():
    distance = np.zeros((15, 15, 15), np.float32)
    distance[7, 7, 7] = 40.0
    mask = np.ones(distance.shape, bool)
    smooth = weighted_map(distance, np.full(distance.shape, 0.25), mask)
    assert smooth.sum() == pytest.approx(0.75, abs=1e-3)  # a unit impulse, times 1 - SSIM
    assert smooth[7, 7, 7] == pytest.approx(0.75 * (2 * np.pi) ** -1.5, rel=0.02)
    assert not weighted_map(np.zeros_like(distance), np.zeros(distance.shape), mask).any()


def test_an_empty_mask_scores_zero():
    x, recons = draws()
    assert not mahalanobis_score(x, recons, np.zeros(x.shape, bool)).any()


@pytest.mark.parametrize(("n", "cut", "part"), [(1, 0, "two reconstructions"), (3, 1, "shape")])
def test_what_cannot_be_scored_is_an_error(n, cut, part):
    x, recons = draws(n)
    with pytest.raises(InputError, match=part):
        mahalanobis(x[cut:], recons, np.ones(x.shape, bool))
