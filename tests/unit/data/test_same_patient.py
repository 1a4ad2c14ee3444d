"""Two scans of one patient: the registration between them, another patient, and a mirrored scan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import phantoms
import pytest

from uadcli.data import same_patient
from uadcli.data.prepare import Prepared
from uadcli.imaging import geometry, template
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE


def first() -> Prepared:
    """The template's head in T1w, as a scan whose world is MNI space."""
    mask = template.on_grid("mni_brain_mask") > 0
    data = np.where(mask, template.on_grid("mni_head_T1w", 1), 0).astype(np.float32)
    return Prepared(data, mask, np.eye(4), "none", 1400.0, 0.0, 0.95, 0.5)


def seen(of: Prepared, through: np.ndarray, world_map: np.ndarray) -> Prepared:
    """Another scan of the same head in other intensities, whose MNI points lie at `through` of them in the first."""

    def moved(values: np.ndarray) -> np.ndarray:
        return geometry.resample(values.astype(np.float32), GRID_AFFINE, GRID_SHAPE, GRID_AFFINE, through)

    mask = moved(of.mask) >= 0.5
    brain = moved(np.sqrt(of.data.max() - of.data) * of.mask)
    return replace(of, data=np.where(mask, brain, 0).astype(np.float32), mask=mask, world_map=world_map)


def moved_head(of: Prepared) -> tuple[Prepared, np.ndarray]:
    """The head turned and shifted in the scanner, and registered to the template a little differently."""
    rigid = phantoms.rotation((8, -5, 12))
    rigid[:3, 3] = [14, -22, 31]
    stretched = np.diag([1.03, 0.98, 1.01, 1.0]) @ phantoms.rotation((1, 0, -2))
    stretched[:3, 3] = [1, -2, 2]
    return seen(of, stretched, rigid @ stretched), rigid


def test_the_rigid_map_between_two_scans_is_found() -> None:
    one = first()
    other, rigid = moved_head(one)
    found = same_patient.align(one, other)
    points = geometry.apply(GRID_AFFINE, np.argwhere(one.mask)[::500].astype(float))
    errors = np.linalg.norm(geometry.apply(found.matrix, points) - geometry.apply(rigid, points), axis=1)
    assert errors.max() < 1.0
    assert np.allclose(found.matrix[:3, :3] @ found.matrix[:3, :3].T, np.eye(3), atol=1e-6)
    assert found.degrees == pytest.approx(np.degrees(np.arccos((np.trace(rigid[:3, :3]) - 1) / 2)), abs=1)
    assert found.mask_overlap > 0.95
    assert same_patient.fault(found, "first.nii.gz") is None
    back = found.brought(other.data)
    both = one.mask & (found.brought(other.mask.astype(np.float32)) >= 0.5)
    assert abs(np.corrcoef(back[both], one.data[both])[0, 1]) > 0.8
    again = same_patient.align(one, other)
    assert np.array_equal(again.matrix, found.matrix)


def test_left_and_right_exchanged_is_a_fault() -> None:
    one = first()
    ball = phantoms.ball(phantoms.Volume(one.data, GRID_AFFINE), (40.0, -20.0, 20.0), 16.0)
    one = replace(one, data=np.where(ball & one.mask, 0.2 * one.data, one.data).astype(np.float32))
    other = seen(one, same_patient.MIRROR, np.eye(4))
    fault = same_patient.fault(same_patient.align(one, other), "first.nii.gz")
    assert fault is not None
    assert "mirror image of first.nii.gz" in fault.what
    assert "header" in fault.hint


@pytest.mark.parametrize("known", [{"similarity": 0.5}, {"mirrored": 0.1}, {}])
def test_brains_that_could_not_be_compared_are_a_fault_that_says_so(known: dict[str, float]) -> None:
    """Nobody would know whether left and right are exchanged."""
    nothing: dict[str, float | None] = {"similarity": None, "mirrored": None}
    one = same_patient.Alignment(np.eye(4), np.eye(4), 0.95, **(nothing | known))
    fault = same_patient.fault(one, "first.nii.gz")
    assert fault is not None
    assert "cannot be compared with first.nii.gz" in fault.what
    assert "not computed" in fault.what
    assert fault.hint


def test_another_brain_is_a_fault() -> None:
    """The same head with its inside displaced by a centimetre here and there: no rigid map fits."""
    from scipy import ndimage

    one = first()
    rng = np.random.default_rng(5)
    fields = [ndimage.gaussian_filter(rng.normal(size=GRID_SHAPE), 5) for _ in range(3)]
    places = [axis + 8 * field / field.std() / 2 for axis, field in zip(np.indices(GRID_SHAPE), fields, strict=True)]
    other = seen(one, np.eye(4), np.eye(4))
    bent = ndimage.map_coordinates(other.data, places, order=1)
    other = replace(other, data=np.where(one.mask, np.maximum(bent, 1e-3), 0).astype(np.float32), mask=one.mask)
    fault = same_patient.fault(same_patient.align(one, other), "first.nii.gz")
    assert fault is not None
    assert "does not show the same brain as first.nii.gz" in fault.what
    assert fault.exit_code == 3
