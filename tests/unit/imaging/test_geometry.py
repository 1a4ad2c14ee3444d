"""The way there and back: orientation, affines, resampling."""

from __future__ import annotations

import numpy as np
import phantoms
import pytest
from scipy import ndimage

from uadcli.imaging import geometry
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE, from_slices, occupied, to_slices


@pytest.mark.parametrize("orientation", phantoms.orientations())
def test_canonical_and_back_is_exact_for_every_axis_order(orientation: np.ndarray) -> None:
    affine = phantoms.rotation((10, -5, 8)) @ np.diag([0.9, 1.1, 5.0, 1])
    data = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    turned = phantoms.turned(phantoms.Volume(data, affine), orientation)
    canonical, canonical_affine, undo = geometry.to_canonical(turned.data, turned.affine)
    assert np.array_equal(canonical, data)
    assert np.allclose(canonical_affine, affine)
    assert np.array_equal(geometry.from_canonical(canonical, undo), turned.data)


def test_orthonormal_affine_is_left_alone() -> None:
    affine = phantoms.rotation((20, 10, 5)) @ np.diag([1, 2, 3, 1.0])
    result, moved = geometry.nearest_orthonormal(affine, (10, 20, 30))
    assert moved < 1e-9
    assert np.allclose(result, affine)


def test_shear_is_removed_and_measured() -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.1
    result, moved = geometry.nearest_orthonormal(affine, (50, 50, 50))
    directions = result[:3, :3] / geometry.spacing(result)
    assert np.allclose(directions.T @ directions, np.eye(3))
    assert np.allclose(geometry.spacing(result), geometry.spacing(affine))
    assert 1.0 < moved < 5.0


def test_a_painted_ball_returns_to_its_place_within_a_millimetre() -> None:
    """A ball on a rotated thick-slice grid goes to the model's grid and back by the inverse transform."""
    affine = phantoms.rotation((12, -9, 15)) @ np.diag([0.9, 0.9, 5.0, 1])
    affine[:3, 3] = -(affine[:3, :3] @ np.array([110, 110, 15])) + np.array([4, -20, 10])
    world_map = phantoms.rotation((5, 4, -8)) @ np.diag([1.1, 0.95, 1.05, 1])
    world_map[:3, 3] = (6, -8, 5)
    source = phantoms.Volume(np.zeros((220, 220, 30), dtype=np.float32), affine)
    painted = phantoms.ball(source, (20, -30, 25), 15).astype(np.float32)
    there = geometry.resample(painted, affine, GRID_SHAPE, GRID_AFFINE, world_map)
    back = geometry.resample(there, GRID_AFFINE, source.shape, affine, np.linalg.inv(world_map))
    before = geometry.apply(affine, np.argwhere(painted > 0.5).mean(axis=0))
    after = geometry.apply(affine, np.argwhere(back > 0.5).mean(axis=0))
    assert np.linalg.norm(after - before) < 1.0
    overlap = 2 * ((back > 0.5) & (painted > 0.5)).sum() / ((back > 0.5).sum() + (painted > 0.5).sum())
    assert overlap > 0.85


def test_left_of_the_patient_stays_left() -> None:
    volume = phantoms.brain(lesion_mm=(-30, -20, 20))
    marked = phantoms.ball(volume, (-30, -20, 20), 12).astype(np.float32)
    on_grid = geometry.resample(marked, volume.affine, GRID_SHAPE, GRID_AFFINE)
    assert geometry.apply(GRID_AFFINE, np.argwhere(on_grid > 0.5).mean(axis=0))[0] < -25


@pytest.mark.parametrize("order", [0, 1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_resampling_a_mostly_empty_source_equals_the_full_one(order: int, seed: int) -> None:
    """Any two rotated grids and a small block anywhere, at the edges too: SciPy on the whole grid gives the same."""
    rng = np.random.default_rng(seed)
    data = np.zeros((30, 36, 22), dtype=np.float32)
    low = rng.integers(0, 20, 3)
    data[tuple(slice(a, a + n) for a, n in zip(low, rng.integers(1, 18, 3), strict=True))] = rng.uniform(-1, 1)

    def grid(middle: list[float]) -> np.ndarray:
        affine = phantoms.rotation(tuple(rng.uniform(-90, 90, 3))) @ np.diag([*rng.uniform(0.6, 3, 3), 1])
        affine[:3, 3] = -affine[:3, :3] @ middle
        return affine

    source, target = grid([15, 18, 11]), grid([20, 20, 20])
    chain = np.linalg.inv(source) @ target
    whole = ndimage.affine_transform(data, chain[:3, :3], chain[:3, 3], output_shape=(40, 40, 40), order=order)
    if order == 3:
        whole = np.clip(whole, min(data.min(), 0), max(data.max(), 0))
    found = geometry.resample(data, source, (40, 40, 40), target, order=order)
    assert np.abs(whole).max() > 0
    assert np.allclose(found, whole, atol=1e-6)
    assert not geometry.resample(np.zeros_like(data), source, (40, 40, 40), target, order=order).any()


def test_cubic_interpolation_does_not_leave_the_range() -> None:
    data = np.zeros((20, 20, 20), dtype=np.float32)
    data[8:12, 8:12, 8:12] = 1
    shifted = np.eye(4)
    shifted[:3, 3] = 0.4
    result = geometry.resample(data, np.eye(4), (20, 20, 20), shifted, order=3)
    assert result.min() >= 0
    assert result.max() <= 1


def test_slices_and_back() -> None:
    volume = np.random.default_rng(0).random(GRID_SHAPE, dtype=np.float32)
    assert np.array_equal(from_slices(to_slices(volume)), volume)
    assert to_slices(volume).shape == (80, 96, 96)
    mask = np.zeros(GRID_SHAPE, dtype=bool)
    mask[:, :, 7:9] = True
    assert occupied(mask).tolist() == [7, 8]


def test_the_grid_is_symmetric_about_the_midline() -> None:
    ends = geometry.apply(GRID_AFFINE, np.array([[0.0, 0, 0], [GRID_SHAPE[0] - 1.0, 0, 0]]))
    assert ends[0, 0] == -ends[1, 0]
