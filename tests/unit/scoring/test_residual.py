"""The residual and its post-processing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from uadcli.config import ScoringConfig
from uadcli.errors import UsageError
from uadcli.scoring.residual import AT_ONCE, anomaly_score, erode_axial, median_filter, postprocess, residual, shading

RNG = np.random.default_rng(0)


def ellipsoid(shape=(96, 96, 80), fraction=0.8):
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    return sum((a / fraction) ** 2 for a in axes) < 1


def test_bright_and_dark_add_up_to_absolute():
    x, x0_hat = RNG.random((2, 8, 9, 7), dtype=np.float32)
    bright, dark = residual(x, x0_hat, "bright"), residual(x, x0_hat, "dark")
    assert np.array_equal(bright + dark, residual(x, x0_hat))
    assert not np.any((bright > 0) & (dark > 0))
    assert np.array_equal(bright > 0, x > x0_hat)


def test_an_unknown_residual_is_a_usage_error():
    with pytest.raises(UsageError, match="unknown score 'sideways'"):
        residual(np.zeros((2, 2, 2)), np.zeros((2, 2, 2)), "sideways")


def test_erosion_is_a_cross_in_the_axial_plane_only():
    mask = np.zeros((11, 11, 3), dtype=bool)
    mask[2:9, 2:9, 1] = True
    expected = np.zeros_like(mask)
    expected[4:7, 4:7, 1] = True
    assert np.array_equal(erode_axial(mask, 2), expected)
    notch = mask.copy()
    notch[2, 2, 1] = False  # a missing corner does not reach the diagonal neighbour of a cross
    assert erode_axial(notch, 1)[3, 3, 1]


@pytest.mark.parametrize("iterations", [0, -1])
def test_no_erosion_leaves_the_mask(iterations):
    mask = ellipsoid((12, 12, 12))
    assert np.array_equal(erode_axial(mask, iterations), mask)


@pytest.mark.parametrize("side", [1, 3, 5])
def test_median_is_that_of_scipy_with_zeros_beyond_the_border(side):
    volume = RNG.random((24, 17, 13), dtype=np.float32)  # more voxels than are done at once
    assert volume.size > AT_ONCE
    assert np.array_equal(median_filter(volume, side), ndimage.median_filter(volume, side, mode="constant"))


def test_an_even_median_is_refused():
    with pytest.raises(UsageError, match="odd"):
        median_filter(np.zeros((8, 8, 8), dtype=np.float32), 4)


def test_postprocessing_in_the_box_equals_the_definition():
    mask, score = ellipsoid((30, 28, 26)), RNG.random((30, 28, 26), dtype=np.float32)
    inside = erode_axial(mask, 2)
    smooth = ndimage.median_filter(np.where(inside, score, 0), 5, mode="constant")
    result = postprocess(score, mask, ScoringConfig(erosion=2, median=5))
    assert np.array_equal(result, np.where(inside, smooth, 0))
    assert result.dtype == np.float32


def test_what_lies_outside_the_eroded_mask_has_no_influence():
    mask, score = ellipsoid((30, 28, 26)), RNG.random((30, 28, 26), dtype=np.float32)
    inside = erode_axial(mask, 3)
    assert np.array_equal(
        postprocess(score, mask, ScoringConfig()), postprocess(np.where(inside, score, 99), mask, ScoringConfig())
    )


def test_an_empty_mask_gives_an_empty_map():
    assert not postprocess(np.ones((20, 20, 20), dtype=np.float32), np.zeros((20, 20, 20), bool), ScoringConfig()).any()


def test_the_weighted_score_needs_both():
    mask = np.ones((30, 30, 10), dtype=bool)
    x, x0_hat = np.full(mask.shape, 0.5, np.float32), np.full(mask.shape, 0.5, np.float32)
    x[8:22, 8:22] = 0.9
    result = anomaly_score(x, x0_hat, mask, "bright-weighted", ScoringConfig())
    assert result[15, 15, 5] == pytest.approx(np.sqrt(0.4 * 0.9), abs=1e-5)
    assert result[4, 4, 5] == 0
    plain = anomaly_score(x, x0_hat, mask, "absolute", ScoringConfig())
    assert np.array_equal(plain, postprocess(np.abs(x - x0_hat), mask, ScoringConfig()))


def a_brain(seed=0):
    """A mask, and tissue of two intensities in it with noise; the opposite sides are alike but for the noise."""
    rng, mask = np.random.default_rng(seed), ellipsoid()
    blobs = ndimage.gaussian_filter(rng.standard_normal(mask.shape), 3)
    tissue = np.where(blobs + blobs[::-1] > 0, 0.7, 0.45) + 0.02 * rng.standard_normal(mask.shape)
    return mask, np.where(mask, tissue, 0).astype(np.float32)


def gentle(strength=0.2):
    """A gain from front to back and from top to bottom."""
    _, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in (96, 96, 80)], indexing="ij")
    return np.exp(strength * (0.6 * y - z + 0.5 * y * z)).astype(np.float32)


def test_shading_that_both_sides_share_is_found():
    mask, healthy = a_brain()
    gain = shading(healthy * gentle(), healthy, mask)
    ratio = (gain / gentle())[mask]
    assert np.std(np.log(ratio)) < 0.15 * np.std(np.log(gentle()[mask]))  # up to a factor


@pytest.mark.parametrize("change", [0.5, 1.4])
def test_a_lesion_on_one_side_is_no_shading_however_large(change):
    mask, healthy = a_brain()
    lesion = mask.copy()
    lesion[48:] = False  # a whole hemisphere
    gain = shading(np.where(lesion, healthy * change, healthy).astype(np.float32), healthy, mask)
    # the median of the brain lies between the sides here; against it neither side has the other's sign
    assert np.abs(np.log(gain[mask])).max() < 0.02


def test_shading_beside_a_lesion_is_that_without_it():
    mask, healthy = a_brain()
    grid = np.indices(mask.shape)
    lesion = mask & (sum((g - c) ** 2 for g, c in zip(grid, (25, 40, 45), strict=True)) < 14**2)  # 90 ml
    scan = healthy * gentle()
    with_lesion = np.where(lesion, scan * 0.6, scan).astype(np.float32)
    change = np.log(shading(with_lesion, healthy, mask) / shading(scan, healthy, mask))
    assert np.abs(change[lesion]).max() < 0.05 < -np.log(0.6) / 5


def test_shading_is_alike_on_both_sides_and_1_without_tissue():
    mask, healthy = a_brain()
    x = np.linspace(-1, 1, 96)[:, None, None]
    gain = shading((healthy * np.exp(0.2 * x)).astype(np.float32), healthy, mask)  # from left to right only
    assert np.allclose(gain, gain[::-1], rtol=1e-5)
    assert np.abs(np.log(gain[mask])).max() < 0.02
    assert np.array_equal(shading(0.1 * healthy, healthy, mask), np.ones_like(healthy))
    assert np.array_equal(shading(healthy, healthy, np.zeros_like(mask)), np.ones_like(healthy))
