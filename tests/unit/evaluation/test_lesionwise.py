"""Lesion by lesion: what counts as found, what as false, by size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from uadcli.evaluation.lesionwise import BIN_NAMES, Lesions, compare_lesions, size_bin

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


def boxes(*corners, side=2, shape=(30, 30, 30)):
    """A mask with one cube of `side` voxels at each corner."""
    mask = np.zeros(shape, bool)
    for x, y, z in corners:
        mask[x : x + side, y : y + side, z : z + side] = True
    return mask


def test_a_lesion_with_one_marked_voxel_is_found():
    truth = boxes((2, 2, 2), (10, 10, 10), (20, 20, 20))
    found = np.zeros_like(truth)
    found[2, 2, 2] = found[11, 11, 11] = True  # one voxel of the first two lesions
    found[25, 2, 2] = found[2, 25, 25] = True  # twice nothing
    lesions = compare_lesions(found, truth, AFFINE)
    assert lesions == Lesions((0.064,) * 3, (True, True, False), 2)
    assert lesions.sensitivity == pytest.approx(2 / 3)
    assert lesions.f1 == pytest.approx(2 * 2 / (2 * 2 + 2 + 1))


def test_one_component_may_find_two_lesions_and_is_not_false():
    truth = boxes((2, 2, 2), (6, 2, 2))
    found = np.zeros_like(truth)
    found[3:7, 3, 3] = True
    assert compare_lesions(found, truth, AFFINE) == Lesions((0.064, 0.064), (True, True), 0)


def test_two_components_in_one_lesion_count_once():
    truth, found = boxes((2, 2, 2), side=9), boxes((2, 2, 2), (8, 8, 8))
    assert compare_lesions(found, truth, AFFINE) == Lesions((9**3 * 0.008,), (True,), 0)


def test_voxels_that_touch_at_a_corner_are_one_lesion():
    truth = boxes((2, 2, 2), (4, 4, 4))
    assert compare_lesions(truth, truth, AFFINE) == Lesions((0.128,), (True,), 0)


def test_largest_first_and_each_with_its_own_verdict():
    truth = boxes((2, 2, 2)) | boxes((10, 10, 10), side=5)
    lesions = compare_lesions(boxes((2, 2, 2)), truth, AFFINE)
    assert lesions == Lesions((1.0, 0.064), (False, True), 0)


def test_what_is_not_defined_is_nan():
    none, some = boxes(), boxes((5, 5, 5))
    assert math.isnan(compare_lesions(none, none, AFFINE).f1)
    assert math.isnan(compare_lesions(some, none, AFFINE).sensitivity)
    assert compare_lesions(some, none, AFFINE).f1 == 0
    assert compare_lesions(none, some, AFFINE).f1 == compare_lesions(none, some, AFFINE).sensitivity == 0


@pytest.mark.parametrize(
    ("volume_ml", "name"), [(0.001, "<0.1"), (0.1, "0.1-1"), (0.99, "0.1-1"), (1, "1-10"), (10, ">=10"), (99, ">=10")]
)
def test_the_bins_include_their_lower_end(volume_ml, name):
    assert BIN_NAMES[size_bin(volume_ml)] == name
