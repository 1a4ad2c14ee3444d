"""Scans with lesion masks: none is matched by chance, none is healthy without a word, and what is lost is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import phantoms
import pytest

from uadcli.config import PreprocessConfig
from uadcli.console import Reporter
from uadcli.data import healthy, lesion_labels
from uadcli.data.dataset import Case
from uadcli.data.prepare import Prepared
from uadcli.data.scans import Scans
from uadcli.errors import InputError
from uadcli.imaging import template
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE

SHAPE = (24, 24, 24)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


def write(path: Path, data: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return phantoms.save(path, data, affine)


def scan(folder: Path, name: str) -> Path:
    return write(folder / name, np.random.default_rng(len(name)).integers(1, 99, SHAPE))


def mask(folder: Path, name: str, voxels: int = 5, shape: tuple[int, ...] = SHAPE) -> Path:
    data = np.zeros(shape)
    data[10, 10, 10 : 10 + voxels] = 1
    return write(folder / name, data)


def silent() -> Reporter:
    return Reporter(silent=True)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for number in (1, 2, 3):
        scan(tmp_path / "scans" / f"sub-{number}" / "anat", f"sub-{number}_FLAIR.nii.gz")
        mask(tmp_path / "labels", f"sub-{number}_label-lesion_mask.nii.gz", voxels=number % 3)
    return tmp_path / "scans", tmp_path / "labels"


def test_each_scan_gets_its_mask_and_its_side_of_the_split(folders: tuple[Path, Path]) -> None:
    cases = lesion_labels.find(*folders, 0.34, silent())
    assert [c.subject for c in cases] == ["sub-1", "sub-2", "sub-3"]
    assert [c.lesions and c.lesions.name for c in cases] == [f"sub-{n}_label-lesion_mask.nii.gz" for n in (1, 2, 3)]
    assert sorted(c.part for c in cases) == ["train", "train", "val"]
    lesion_labels.check(cases, folders[1])


def test_masks_may_lie_beside_the_scans(tmp_path: Path) -> None:
    scan(tmp_path, "p1_flair.nii.gz")
    mask(tmp_path, "p1_seg.nii.gz")
    (case,) = lesion_labels.find(tmp_path, tmp_path, 0, silent())
    assert (case.scan.name, case.lesions and case.lesions.name) == ("p1_flair.nii.gz", "p1_seg.nii.gz")


def test_a_scan_is_never_its_own_mask(tmp_path: Path) -> None:
    scan(tmp_path, "p1_flair.nii.gz")
    with pytest.raises(InputError, match=r"1 scan has no mask .*\(p1_flair.nii.gz\).*empty mask"):
        lesion_labels.find(tmp_path, tmp_path, 0, silent())


def test_a_scan_without_a_mask_is_named_and_not_taken_for_healthy(folders: tuple[Path, Path]) -> None:
    scan(folders[0], "sub-4_FLAIR.nii.gz")
    with pytest.raises(InputError, match=r"1 scan has no mask .*\(sub-4_FLAIR.nii.gz\)"):
        lesion_labels.find(*folders, 0.2, silent())


def test_two_masks_for_one_scan_are_an_error(folders: tuple[Path, Path]) -> None:
    mask(folders[1], "sub-1_label-lesions_seg.nii.gz")
    with pytest.raises(InputError, match=r"sub-1_FLAIR.nii.gz: matches two masks"):
        lesion_labels.find(*folders, 0.2, silent())


def test_a_mask_without_a_scan_is_said(folders: tuple[Path, Path]) -> None:
    mask(folders[1], "sub-9_label-lesion_mask.nii.gz")
    reporter = silent()
    lesion_labels.find(*folders, 0.2, reporter)
    assert "sub-9_label-lesion_mask.nii.gz" in reporter.warnings[0]


def test_a_mask_on_another_grid_is_an_error(folders: tuple[Path, Path]) -> None:
    mask(folders[1], "sub-2_label-lesion_mask.nii.gz", shape=(30, 24, 24))
    with pytest.raises(InputError, match=r"sub-2_label-lesion_mask.nii.gz: the lesion mask is not on the scan's grid"):
        lesion_labels.check(lesion_labels.find(*folders, 0.2, silent()), folders[1])


def test_masks_that_are_all_empty_are_an_error(folders: tuple[Path, Path]) -> None:
    for file in folders[1].iterdir():
        mask(folders[1], file.name, voxels=0)
    with pytest.raises(InputError, match="every mask is empty") as caught:
        lesion_labels.check(lesion_labels.find(*folders, 0.2, silent()), folders[1])
    assert caught.value.path == folders[1]


def test_a_scan_that_cannot_be_read_is_left_to_the_preparation(folders: tuple[Path, Path]) -> None:
    """It is named and left out there, as in every training."""
    (folders[0] / "sub-1" / "anat" / "sub-1_FLAIR.nii.gz").write_bytes(b"broken")
    lesion_labels.check(lesion_labels.find(*folders, 0.2, silent()), folders[1])


@pytest.fixture
def head(monkeypatch: pytest.MonkeyPatch) -> Prepared:
    """Stands for every prepared scan: the template's brain, where it is."""
    inside = template.on_grid("mni_brain_mask") > 0
    data = np.where(inside, template.on_grid("mni_head_T1w", 1), 0).astype(np.float32)
    one = Prepared(data, inside, np.eye(4), "none", 1400.0, 0.0, 1.0, 1.0)
    monkeypatch.setattr(Scans, "prepared", lambda *_: one)
    return one


def labelled(folder: Path, name: str, *voxels: tuple[slice, ...]) -> Case:
    """A case whose mask lies on the model's grid."""
    data = np.zeros(GRID_SHAPE)
    for box in voxels:
        data[box] = 1
    return Case(name, "x", "train", "T1w", folder / name, write(folder / f"{name}.nii.gz", data, GRID_AFFINE))


CUBE = (slice(40, 46), slice(40, 46), slice(40, 46))
CORNER = (slice(0, 3), slice(0, 3), slice(0, 3))


def test_lesions_are_counted_in_the_brain_and_scans_without_remaining_lesion_are_reported(
    head: Prepared, tmp_path: Path
) -> None:
    cases = [labelled(tmp_path, "in", CUBE, CORNER), labelled(tmp_path, "none"), labelled(tmp_path, "out", CORNER)]
    reporter = silent()
    more = lesion_labels.rows({c.scan: c for c in cases}, Scans(tmp_path, PreprocessConfig()), reporter)
    assert [more[c.scan]["lesion_voxels"] for c in cases] == [6**3, 0, ""]
    assert [bool(more[c.scan].get("fault")) for c in cases] == [False, False, True]
    assert len(reporter.warnings) == 1
    assert "out: left out: no lesion voxel of its mask" in reporter.warnings[0]


def test_a_labelled_scan_is_what_lies_on_the_models_grid(head: Prepared, tmp_path: Path) -> None:
    (one,) = lesion_labels.load([labelled(tmp_path, "in", CUBE, CORNER)], Scans(tmp_path, PreprocessConfig()))
    assert one.truth[CUBE].all()
    assert one.truth.sum() == 6**3  # the corner is not in the brain
    assert np.array_equal(one.usable, healthy.brain_slices(head.mask))
    assert np.array_equal(one.data, head.linear(PreprocessConfig()))
