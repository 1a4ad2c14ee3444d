"""The filter by which the learned score follows the edges of the scan."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from uadcli.scoring.metrics import average_precision
from uadcli.scoring.siamese import EPSILON, LIMIT, guided_filter

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


def test_it_is_the_mean_of_the_linear_fits_around_a_voxel() -> None:
    """By its definition, one cube at a time; only voxels of the mask count."""
    rng, shape, radius = np.random.default_rng(3), (7, 8, 6), 1
    scan, values = rng.normal(0, 1, shape).astype(np.float32), rng.uniform(0.3, 0.6, shape).astype(np.float32)
    brain = np.zeros(shape, bool)
    brain[1:6, 1:7, 1:5] = True
    brain[3, 3, 2] = False

    def around(place: tuple[int, ...]) -> np.ndarray:
        cube = np.zeros(shape, bool)
        cube[tuple(slice(max(i - radius, 0), i + radius + 1) for i in place)] = True
        return cube & brain

    slope, offset = np.zeros(shape), np.zeros(shape)
    for place in np.argwhere(brain):
        at, cube = tuple(place), around(tuple(place))
        g, p = scan[cube].astype(float), values[cube].astype(float)
        slope[at] = ((g * p).mean() - g.mean() * p.mean()) / (g.var() + EPSILON)
        offset[at] = p.mean() - slope[at] * g.mean()
    filtered = guided_filter(values, scan, brain, radius)
    for place in np.argwhere(brain):
        at, cube = tuple(place), around(tuple(place))
        expected = np.clip(slope[cube].mean() * scan[at] + offset[cube].mean(), 0, 1)
        assert filtered[at] == pytest.approx(expected, abs=1e-5)


def test_radius_0_changes_nothing() -> None:
    values = smooth_map()
    assert guided_filter(values, NOISE.astype(np.float32), BRAIN, 0) is values
