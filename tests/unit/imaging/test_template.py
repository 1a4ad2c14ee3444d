"""The bundled template: every voxel as it was made, however it is stored."""

import hashlib

import numpy as np
import pytest
from scipy import ndimage

from uadcli.imaging import template
from uadcli.imaging.geometry import apply
from uadcli.imaging.slices import GRID_AFFINE

CONTENT = {  # sha256 of the voxels as bytes, in C order
    "mni_head_T1w": "ec6e8d68d3236b98e2eb4eba21956d81e64a82f8a44db0795773f50297ff48bb",
    "mni_brain_mask": "819e4397270f724a0eda47f5158c5176d6b63c06a0eaa0d5a63c5ff45e8c9840",
    "mni_regions_dseg": "d0f2c5e6bc62931e9e050b77dcbf4ac5611e6779e5ddd08cd33a7486f9321d59",
    "mni_tissue_dseg": "b50492b8c4126d6072e89ca3d8fabc422274ffe42cbd2e14d80d928013a9136a",
}


@pytest.mark.parametrize("name", CONTENT)
def test_every_voxel_is_as_it_was_made(name: str) -> None:
    data = template._read(name).data
    assert data.dtype == np.float32
    assert hashlib.sha256(data.astype(np.uint8).tobytes()).hexdigest() == CONTENT[name]


def test_the_head_lies_on_the_grid_of_its_mask() -> None:
    head, mask = template.head(), template.brain_mask()
    assert head.shape == mask.shape == (97, 115, 97)
    assert np.array_equal(np.diag(head.affine), [2, 2, 2, 1])
    assert head.data[mask].mean() > 2 * head.data[~mask].mean()


def test_tissue_is_most_of_the_brain_without_the_sinuses() -> None:
    tissue, brain = template.tissue(), template.on_grid("mni_brain_mask") > 0
    assert 0.7 < tissue[brain].mean() < 0.9
    assert tissue[template.white_matter() == 1].all()
    assert (tissue == tissue[::-1])[brain].mean() > 0.9
    places = np.array([(0, -90, -15), (0, -30, 74), (0, -60, 66)], dtype=float)  # confluence, superior sagittal sinus
    sinuses = tuple(np.round(apply(np.linalg.inv(GRID_AFFINE), places)).astype(int).T)
    assert brain[sinuses].all()
    assert not tissue[sinuses].any()
    assert not tissue.flags.writeable


def test_white_matter_lies_within_the_brain_and_is_nearly_the_same_on_both_sides() -> None:
    white, brain = template.white_matter(), template.on_grid("mni_brain_mask") > 0
    assert white.shape == brain.shape
    assert 0 <= white.min() <= white.max() == 1
    assert 0.05 < (white[brain] == 1).mean() < 0.3
    assert white[~ndimage.binary_dilation(brain, iterations=5)].max() < 0.01
    regions = template.regions()
    assert white[np.isin(regions, (3, 4))].mean() > 0.6
    assert white[np.isin(regions, (1, 2, 5, 6))].mean() < 0.2
    assert np.abs(white - white[::-1]).mean() < 0.03
    assert not white.flags.writeable
