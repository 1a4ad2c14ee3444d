"""Connected components, their volumes and places."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from uadcli.scoring.components import components

GRID = np.array([[2.0, 0, 0, -96], [0, 2, 0, -132], [0, 0, 2, -78], [0, 0, 0, 1]])


def blobs(shape=(30, 30, 30)):
    scores = np.zeros(shape, dtype=np.float32)
    scores[3:5, 3:5, 3:5] = 0.4  # 8 voxels
    scores[10:14, 10:14, 10:14] = 0.5  # 64 voxels
    scores[11, 12, 13] = 0.9
    scores[20, 20, 20] = 0.8  # 1 voxel
    return scores


def test_volumes_scores_and_places():
    labels, (big, small) = components(blobs(), 0.3, 64, GRID)
    assert labels.dtype == np.uint8
    assert (labels == 1).sum() == 64
    assert (labels == 2).sum() == 8
    assert (big.index, small.index) == (1, 2)
    assert big.volume_mm3 == pytest.approx(512.0)
    assert big.peak == pytest.approx(0.9)
    assert big.mean == pytest.approx((63 * 0.5 + 0.9) / 64)
    assert big.centroid_mm == pytest.approx((2 * 11.5 - 96, 2 * 11.5 - 132, 2 * 11.5 - 78))
    assert big.peak_mm == pytest.approx((2 * 11 - 96, 2 * 12 - 132, 2 * 13 - 78))
    assert small.volume_mm3 == pytest.approx(64)


@pytest.mark.parametrize(("start", "stop", "left"), [(46, 48, 1), (47, 49, 0.75), (47, 50, 0.5), (49, 51, 0)])
def test_the_share_on_the_left_counts_half_of_what_is_in_the_middle(start, stop, left):
    scores = np.zeros((60, 4, 4), dtype=np.float32)
    scores[start:stop, 1, 1] = 1
    (one,) = components(scores, 0.5, 0, GRID)[1]  # voxel 48 is at x = 0
    assert one.left == left


@pytest.mark.parametrize(("minimum", "count"), [(0, 3), (-1, 3), (8, 3), (8.1, 2), (64, 2), (64.1, 1), (1000, 0)])
def test_the_minimum_is_itself_kept(minimum, count):
    labels, table = components(blobs(), 0.3, minimum, GRID)
    assert len(table) == count == labels.max()


@pytest.mark.parametrize("size", [0.7, 0.9, 1.0, 1.1, 2.0, 3.0])
def test_rounding_of_the_voxel_volume_does_not_drop_the_minimum(size):
    affine = np.diag([size, size, size, 1.0])
    for turned in (affine, affine[[1, 0, 2, 3]]):
        assert len(components(blobs(), 0.3, 8 * size**3, turned)[1]) == 2


def test_a_cavity_counts_towards_the_minimum_but_not_to_the_volume():
    scores = np.zeros((9, 9, 9), dtype=np.float32)
    scores[2:7, 2:7, 2:7] = 1
    scores[3:6, 3:6, 3:6] = 0
    labels, table = components(scores, 0.5, 125, np.eye(4))
    assert len(table) == 1
    assert table[0].volume_mm3 == 98
    assert not labels[4, 4, 4]
    assert components(scores, 0.5, 126, np.eye(4))[1] == []


def test_corners_connect():
    scores = np.zeros((6, 6, 6), dtype=np.float32)
    scores[[1, 2, 3], [1, 2, 3], [1, 2, 3]] = 1
    assert len(components(scores, 0.5, 0, np.eye(4))[1]) == 1


def test_the_threshold_itself_is_not_above():
    assert components(np.full((4, 4, 4), 0.5, dtype=np.float32), 0.5, 0, np.eye(4))[1] == []


def test_oblique_spacing_enters_the_volume_and_the_place():
    affine = np.array([[0, -0.9, 0, 4], [0.9, 0, 0, 5], [0, 0, 5, 6], [0, 0, 0, 1]])
    scores = np.zeros((10, 10, 10), dtype=np.float32)
    scores[2, 3, 4] = 1
    (one,) = components(scores, 0.5, 0, affine)[1]
    assert one.volume_mm3 == pytest.approx(0.9 * 0.9 * 5)
    assert one.centroid_mm == pytest.approx((4 - 0.9 * 3, 5 + 0.9 * 2, 6 + 20))


def test_random_maps_agree_with_scipy_and_are_sorted():
    scores = ndimage.gaussian_filter(np.random.default_rng(1).random((40, 40, 40)), 1.2).astype(np.float32)
    labels, table = components(scores, 0.55, 0, np.eye(4))
    reference, count = ndimage.label(scores > 0.55, np.ones((3, 3, 3)))
    assert len(table) == count > 10
    assert np.array_equal(labels > 0, reference > 0)
    volumes = [c.volume_mm3 for c in table]
    assert volumes == sorted(volumes, reverse=True)
    for c in table:
        place = tuple(int(v) for v in c.peak_mm)
        assert scores[place] == pytest.approx(c.peak) == scores[reference == reference[place]].max()


def test_more_than_255_components_do_not_wrap_around():
    scores = np.zeros((40, 40, 4), dtype=np.float32)
    scores[::2, ::2, 0] = 1
    labels, table = components(scores, 0.5, 0, np.eye(4))
    assert len(table) == 400
    assert (labels > 0).sum() == 400


def test_an_empty_map_has_none():
    labels, table = components(np.zeros((5, 6, 7), dtype=np.float32), 0.1, 64, GRID)
    assert table == []
    assert labels.shape == (5, 6, 7)
    assert not labels.any()


def test_a_native_grid_has_its_components():
    scores = np.zeros((256, 256, 256), dtype=np.float32)
    scores[40:220, 40:220, 40:220] = ndimage.zoom(np.random.default_rng(2).random((45, 45, 45), np.float32), 4, order=1)
    _, table = components(scores, 0.8, 64, np.eye(4))
    assert len(table) > 100


def test_a_finding_extends_to_connected_voxels_above_the_gentler_threshold_only():
    scores = np.zeros((20, 20, 20), dtype=np.float32)
    scores[4:8, 4:8, 4:8] = 0.9  # a core
    scores[8:12, 4:8, 4:8] = 0.4  # beside it
    scores[15:18, 15:18, 15:18] = 0.4  # far from any core
    strict = components(scores, 0.5, 64, GRID)
    labels, (only,) = components(scores, 0.5, 64, GRID, extent=0.3)
    assert (strict[0] > 0).sum() == 64
    assert (labels > 0).sum() == 128
    assert not labels[15:18].any()
    assert (only.peak, only.volume_mm3) == (pytest.approx(0.9), pytest.approx(1024))


def test_there_is_a_finding_by_the_extent_exactly_where_there_is_one_without():
    """So that a promise about healthy scans without any finding holds as well."""
    rng = np.random.default_rng(5)
    for seed in range(20):
        scores = ndimage.gaussian_filter(rng.normal(size=(24, 24, 24)), 1 + seed % 3).astype(np.float32)
        scores /= scores.max()
        strict, extended = (components(scores, 0.8, 64, GRID, extent=extent)[0] > 0 for extent in (None, 0.5))
        assert strict.any() == extended.any()
        assert not (strict & ~extended).any()


def test_two_cores_that_one_extent_joins_are_one_finding():
    scores = np.full((20, 6, 6), 0.4, dtype=np.float32)
    scores[1:4, 1:4, 1:4] = scores[14:18, 1:4, 1:4] = 0.9
    assert len(components(scores, 0.5, 64, GRID)[1]) == 2
    assert len(components(scores, 0.5, 64, GRID, extent=0.3)[1]) == 1
