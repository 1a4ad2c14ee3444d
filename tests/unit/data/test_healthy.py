"""Which slices of a patient count as healthy."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uadcli.data import healthy
from uadcli.data.dataset import Case
from uadcli.data.healthy import LESION_MARGIN_SLICES, healthy_slices, lesions_on_grid, touched_slices
from uadcli.data.prepare import Prepared
from uadcli.imaging.slices import FINE_AFFINE, FINE_SHAPE, GRID_SHAPE


def patient(folder: Path, lesion: tuple[slice, ...], world_map: np.ndarray) -> tuple[Case, Prepared]:
    """A patient whose brain fills the model's grid, with a lesion on a grid of 1 mm."""
    voxels = np.zeros(FINE_SHAPE, np.uint8)
    voxels[lesion] = 1
    nib.Nifti1Image(voxels, world_map @ FINE_AFFINE).to_filename(folder / "mask.nii.gz")
    mask = np.ones(GRID_SHAPE, dtype=bool)
    prepared = Prepared(mask.astype(np.float32), mask, world_map, "none", 1400.0, 0.0, 1.0, 1.0)
    return Case("s", "lab", "train", "FLAIR", folder / "scan.nii.gz", folder / "mask.nii.gz"), prepared


@pytest.mark.parametrize("place", [(90, 90, 60), (91, 90, 61), (90, 91, 61), (91, 91, 60)])
@pytest.mark.parametrize("shift", [0.0, 6.4])
def test_a_lesion_of_one_voxel_is_in_no_healthy_slice(
    tmp_path: Path, place: tuple[int, int, int], shift: float
) -> None:
    world_map = np.eye(4)
    world_map[:3, 3] = shift
    case, prepared = patient(tmp_path, tuple(slice(n, n + 1) for n in place), world_map)
    assert np.flatnonzero(touched_slices(case, prepared)).tolist() == [30]
    around = set(range(30 - LESION_MARGIN_SLICES, 31 + LESION_MARGIN_SLICES))
    assert set(range(GRID_SHAPE[2])) - set(healthy_slices(case, prepared).tolist()) == around


@pytest.mark.parametrize("shift", [0.0, 0.9, 6.4])
def test_every_lesion_of_one_voxel_is_on_the_models_grid_where_it_lies(tmp_path: Path, shift: float) -> None:
    """By nearest neighbour alone, one in eight was."""
    world_map = np.eye(4)
    world_map[:3, 3] = shift
    case, prepared = patient(tmp_path, (slice(40, 80, 5),) * 3, world_map)
    places = np.argwhere(lesions_on_grid(case, prepared))
    assert len(places) == 8**3
    assert (
        np.abs(2 * places - np.stack(np.meshgrid(*[range(40, 80, 5)] * 3, indexing="ij"), -1).reshape(-1, 3)).max() <= 1
    )


def test_a_lesion_that_does_not_vanish_is_as_by_nearest_neighbour(tmp_path: Path) -> None:
    case, prepared = patient(tmp_path, (slice(60, 70), slice(60, 70), slice(40, 50)), np.eye(4))
    wanted = np.zeros(GRID_SHAPE, dtype=bool)
    wanted[30:35, 30:35, 20:25] = True
    assert np.array_equal(lesions_on_grid(case, prepared), wanted)


def test_a_large_lesion_touches_the_slices_that_it_is_in(tmp_path: Path) -> None:
    case, prepared = patient(tmp_path, (slice(60, 100), slice(60, 100), slice(40, 50)), np.eye(4))
    assert np.flatnonzero(touched_slices(case, prepared)).tolist() == [20, 21, 22, 23, 24]


def test_the_lesion_mask_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case, prepared = patient(tmp_path, (slice(60, 70), slice(60, 70), slice(40, 50)), np.eye(4))
    files, read = list[Path](), healthy.read_mask_file
    monkeypatch.setattr(healthy, "read_mask_file", lambda file, **more: files.append(file) or read(file, **more))
    assert touched_slices(case, prepared).any()
    assert files == [case.lesions]


def test_a_lesion_beyond_the_grid_touches_nothing(tmp_path: Path) -> None:
    world_map = np.eye(4)
    case, prepared = patient(tmp_path, (slice(90, 91), slice(90, 91), slice(159, 160)), world_map)
    far = Prepared(**(vars(prepared) | {"world_map": world_map @ np.diag([1.0, 1.0, 0.5, 1.0])}))
    assert not touched_slices(case, far).any()
