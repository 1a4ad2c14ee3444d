"""The filter by which the learned score follows the edges of the scan."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from uadcli.scoring.metrics import average_precision
from uadcli.scoring.siamese import LIMIT, guided_filter

SHAPE = (40, 40, 30)
X, Y, Z = np.indices(SHAPE)
BRAIN = (X - 20) ** 2 + (Y - 20) ** 2 + (1.3 * (Z - 15)) ** 2 < 18**2
LESION = (X - 24) ** 2 + (Y - 20) ** 2 + (Z - 15) ** 2 < 6**2
NOISE = np.random.default_rng(0).normal(0, 0.2, SHAPE)


def smooth_map() -> np.ndarray:
    """A map that knows where the lesion is, and not where it ends."""
    return np.where(BRAIN, ndimage.gaussian_filter(LESION.astype(np.float32), 4), 0).astype(np.float32)


def followed(probability: np.ndarray, scan: np.ndarray) -> np.ndarray:
    return guided_filter(probability, scan, BRAIN, 4)


def test_a_smooth_map_follows_the_border_of_a_lesion() -> None:
    scan = (np.where(LESION, 3.0, 0.0) + NOISE).astype(np.float32)
    before, after = smooth_map(), followed(smooth_map(), scan)
    inner = LESION & ~ndimage.binary_erosion(LESION)
    outer = ndimage.binary_dilation(LESION) & ~LESION & BRAIN
    assert np.median(before[inner]) / np.median(before[outer]) < 1.5
    assert np.median(after[inner]) / np.median(after[outer]) > 2


def test_a_map_beside_the_lesion_moves_onto_it() -> None:
    scan = (np.where(LESION, 3.0, 0.0) + NOISE).astype(np.float32)
    beside = np.roll(smooth_map(), 3, axis=0)
    assert average_precision(followed(beside, scan), LESION) > average_precision(beside, LESION) + 0.1


def test_dark_lesions_are_followed_as_bright_ones_are() -> None:
    scan = (np.where(LESION, 3.0, 0.0) + NOISE).astype(np.float32)
    assert followed(smooth_map(), -scan) == pytest.approx(followed(smooth_map(), scan), abs=1e-6)


def test_an_even_map_stays_even_up_to_the_rim_of_the_brain_and_is_0_outside() -> None:
    even = np.where(BRAIN, 0.3, 0).astype(np.float32)
    scan = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
    filtered = followed(even, scan)
    assert np.abs(filtered[BRAIN] - 0.3).max() < 1e-5
    assert not filtered[~BRAIN].any()


def test_what_lies_outside_the_brain_does_not_matter() -> None:
    scan = np.where(BRAIN, np.where(LESION, 3.0, 0.0) + NOISE, 0).astype(np.float32)
    skull = np.where(BRAIN, scan, 50).astype(np.float32)
    values = np.where(BRAIN, smooth_map(), 1).astype(np.float32)
    assert np.array_equal(followed(values, skull), followed(smooth_map(), scan))


def test_edges_between_extreme_intensities_do_not_count() -> None:
    """Fluid and vessels have no lesions in them, however much their voxels differ."""
    wild = np.where(LESION, np.random.default_rng(2).uniform(LIMIT, 4 * LIMIT, SHAPE), 0.0).astype(np.float32)
    tame = np.where(LESION, np.float32(LIMIT), 0).astype(np.float32)
    assert np.array_equal(followed(smooth_map(), wild), followed(smooth_map(), tame))


def test_radius_0_changes_nothing() -> None:
    values = smooth_map()
    assert guided_filter(values, NOISE.astype(np.float32), BRAIN, 0) is values
