"""Synthetic volumes: physical order of the tissues, place in the world, lesions and their truth, seeds, bad sources."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from tests.phantoms import orientations
from uadcli.cli.app import main
from uadcli.console import Reporter
from uadcli.errors import InputError, OutputError, UsageError
from uadcli.imaging.volume import Volume
from uadcli.synthesis import anatomy, brains
from uadcli.synthesis import synth as synth_module
from uadcli.synthesis.options import SynthOptions
from uadcli.synthesis.synth import is_label_map, synth

SHAPE, CENTRE = (84, 96, 76), np.array([42.0, 47, 39])


def labels() -> np.ndarray:
    """A head of ellipsoids at 1 mm: skull, fluid, cortex, white matter of two sides, ventricle."""
    grid = np.stack(np.indices(SHAPE)).astype(float)
    offset = (grid - CENTRE[:, None, None, None]) / np.array([34.0, 40, 32])[:, None, None, None]
    radius = np.sqrt((offset**2).sum(axis=0))
    right = offset[0] > 0
    result = np.where(radius < 1.05, 517, 0)
    for limit, left_label, right_label in ((0.98, 24, 24), (0.9, 3, 42), (0.72, 2, 41), (0.25, 4, 43)):
        result = np.where(radius < limit, np.where(right, right_label, left_label), result)
    return result.astype(np.int16)


def save(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    nib.Nifti1Image(data, affine).to_filename(path)
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "head_dseg.nii.gz", labels(), np.eye(4))


def make(source: Path, name: str = "out.nii.gz", **options: object) -> Path:
    with Reporter(silent=True) as reporter:
        return synth(source, source.parent / name, SynthOptions(**{"contrast": "T1w", **options}), reporter)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["head_dseg.nii.gz", "head_dseg.nii"])
def test_neither_the_source_nor_its_json_file_is_replaced(source: Path, name: str) -> None:
    """A sidecar in the place of the latter would make the source a synthetic scan."""
    before = source.read_bytes()
    with pytest.raises(UsageError, match=r"is the (JSON file of the )?source"):
        make(source, name, overwrite=True)
    assert source.read_bytes() == before
    assert not source.with_name("head_dseg.json").exists()


def test_warnings_about_the_source_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = nib.Nifti1Image(labels(), None)
    image.header.set_zooms((1.0, 1.0, 1.0))
    image.to_filename(tmp_path / "head_dseg.nii")
    assert main(["synth", str(tmp_path / "head_dseg.nii"), "-o", str(tmp_path / "out.nii.gz")]) == 0
    said = capsys.readouterr().err
    assert "left and right are unknown" in said
    assert "--geometry" not in said


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 0.5, 1)])
def test_the_volume_fills_the_field_of_view_of_its_label_map(tmp_path: Path, size: tuple[float, ...]) -> None:
    affine = np.diag([*size, 1.0])
    affine[:3, 3] = (-40, -60, 10)
    made = nib.load(make(save(tmp_path / "head_dseg.nii.gz", labels(), affine)))
    for place, other in ((np.full(3, -0.5), np.full(3, -0.5)), (np.array(SHAPE) - 0.5, np.array(made.shape) - 0.5)):
        corner = made.affine[:3, :3] @ other + made.affine[:3, 3]
        assert corner == pytest.approx(affine[:3, :3] @ place + affine[:3, 3], abs=1e-4)


def at_2mm(mask: np.ndarray) -> np.ndarray:
    x, y, z = (n // 2 for n in mask.shape)
    return mask.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5)) == 1


@pytest.mark.parametrize(
    ("contrast", "order"),
    [("T1w", ("csf", "grey", "white")), ("T2w", ("white", "grey", "csf")), ("FLAIR", ("csf", "white", "grey"))],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_tissues_are_in_their_physical_order(source: Path, contrast: str, order: tuple[str, ...], seed: int) -> None:
    data = nib.load(make(source, contrast=contrast, seed=seed, clean=True)).get_fdata()
    numbers = {"csf": (4, 43), "grey": (3, 42), "white": (2, 41)}
    medians = [np.median(data[at_2mm(np.isin(labels(), numbers[t]))]) for t in order]
    assert medians[0] < medians[1] + 0.02  # FLAIR may have grey and white matter alike
    assert medians[1] < medians[2] + 0.02
    assert medians[0] < medians[2]


@pytest.mark.parametrize("turn", range(3))
def test_the_volume_lies_where_the_label_map_does(tmp_path: Path, turn: int) -> None:
    affine = np.diag([1.2, 0.9, 1.1, 1.0])
    affine[:3, 3] = -30, 12, 5
    image = nib.Nifti1Image(labels(), affine).as_reoriented(orientations()[17 * turn])
    source = tmp_path / "turned_dseg.nii.gz"
    image.to_filename(source)
    made = nib.load(make(source, clean=True))
    brain = np.argwhere(made.get_fdata() > 0).mean(axis=0)
    white = np.argwhere(np.isin(labels(), (24, 3, 42, 2, 41, 4, 43))).mean(axis=0)
    assert np.abs(nib.affines.apply_affine(made.affine, brain) - nib.affines.apply_affine(affine, white)).max() < 1.0
    assert np.allclose(nib.affines.voxel_sizes(made.affine), 2)


def test_the_same_seed_gives_the_same_volume_and_another_one_does_not(source: Path) -> None:
    first, again, other = (nib.load(make(source, f"{i}.nii.gz", seed=s)).get_fdata() for i, s in enumerate((4, 4, 5)))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_lesions_are_where_their_mask_says(source: Path) -> None:
    healthy = nib.load(make(source, "healthy.nii.gz", contrast="FLAIR", seed=1, clean=True)).get_fdata()
    path = make(source, "ill.nii.gz", contrast="FLAIR", seed=1, clean=True, lesions=True)
    ill = nib.load(path).get_fdata()
    truth = nib.load(path.with_name("ill_lesions.nii.gz"))
    mask = np.asarray(truth.dataobj) > 0
    assert truth.get_data_dtype() == np.uint8
    assert mask.any()
    x, y, z = (n // 2 for n in SHAPE)
    brain = ((labels() > 0) & (labels() < 500)).reshape(x, 2, y, 2, z, 2).any(axis=(1, 3, 5))
    assert brain[mask].all()
    around = (healthy > 0) & ~mask
    slope, level = np.polyfit(healthy[around], ill[around], 1)  # a lesion moves the percentiles of the scaling
    change = np.abs(ill - np.clip(slope * healthy + level, 0, 1))
    assert np.median(change[mask]) > 3 * np.median(change[around])
    content = json.loads(path.with_name("ill.json").read_text())
    assert content["lesion_volume_ml"] == pytest.approx(mask.sum() * 8e-3)
    assert content["synthetic"] is True
    assert "Research use only" in content["research_use_only"]
    assert json.loads(source.with_name("healthy.json").read_text())["lesion_volume_ml"] is None


@pytest.mark.parametrize(
    ("left_cortex", "right_cortex", "left_white", "right_white"),
    [(1001, 2035, 2, 41), (1024, 2000, 3001, 4035), (11175, 12101, 2, 41), (1002, 2002, 5001, 5002)],
)
def test_cortex_and_white_matter_may_be_parcellated(
    left_cortex: int, right_cortex: int, left_white: int, right_white: int, source: Path
) -> None:
    """As in aparc+aseg.mgz, wmparc.mgz and aparc.a2009s+aseg.mgz of FreeSurfer, and by `mri_synthseg --parc`."""
    parcels = labels().astype(np.int32)
    for whole, parcel in ((3, left_cortex), (42, right_cortex), (2, left_white), (41, right_white)):
        parcels[parcels == whole] = parcel
    parcellated = save(source.with_name("aparc.nii.gz"), parcels, np.eye(4))
    wanted = nib.load(make(source, "whole.nii.gz")).get_fdata()
    assert np.array_equal(nib.load(make(parcellated, "parcels.nii.gz")).get_fdata(), wanted)


@pytest.mark.parametrize("number", [77, 78, 79, 251, 253, 255])
def test_corpus_callosum_and_dark_white_matter_are_white_matter(number: int, source: Path) -> None:
    """FreeSurfer's aseg numbers them apart; in a healthy brain they were as bright as a mean of grey and white."""
    part = labels()
    part[35:49, 40:54, 62:66] = number
    brain = brains.from_labels(part, "T1w", np.random.default_rng(0))
    half = part[::2, ::2, ::2]
    grey, white = (np.median(brain[np.isin(half, numbers)]) for numbers in ((3, 42), (2, 41)))
    assert np.median(brain[half == number]) > grey + 0.75 * (white - grey)
    assert anatomy.of_labels(part).white[half == number].mean() > 0.9


def test_labels_that_are_not_known_are_said(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    strange = labels().astype(np.int32)
    strange[40:44, 40:44, 40:44] = 9999
    save(source, strange, np.eye(4))
    assert main(["synth", str(source), "-o", str(source.with_name("out.nii.gz"))]) == 0
    assert "64 voxels have numbers that are not FreeSurfer's, such as 9999: left out" in capsys.readouterr().err
    assert main(["synth", str(save(source, labels(), np.eye(4))), "-o", str(source.with_name("2.nii.gz"))]) == 0
    assert "left out" not in capsys.readouterr().err


def test_a_label_map_without_a_side_is_told_what_it_lacks(source: Path) -> None:
    half = np.where(np.isin(labels(), (2, 3)), 0, labels()).astype(np.int16)
    save(source, half, np.eye(4))
    with pytest.raises(InputError, match="lacks FreeSurfer's numbers 2, 3"):
        make(source)


def test_a_noisy_scan_with_label_numbers_is_no_label_map() -> None:
    noise = np.random.default_rng(0).integers(0, 200, SHAPE).astype(np.float32)
    assert not is_label_map(Volume(noise, np.eye(4)))
    assert is_label_map(Volume(labels().astype(np.float32), np.eye(4)))


def test_nothing_is_overwritten_and_names_are_checked(source: Path) -> None:
    make(source)
    with pytest.raises(OutputError, match="exists"):
        make(source)
    make(source, overwrite=True)
    for changes in ({"name": "out.png"}, {"contrast": "PD", "name": "b.nii.gz"}):
        with pytest.raises(UsageError):
            make(source, **changes)


def test_a_healthy_volume_does_not_keep_the_lesions_of_the_one_it_replaces(source: Path) -> None:
    mask = make(source, lesions=True).with_name("out_lesions.nii.gz")
    assert mask.exists()
    make(source, overwrite=True)
    assert not mask.exists()


@pytest.mark.parametrize(
    ("overwrite", "part"), [(False, "already exists"), (True, "would be taken for the lesion mask")]
)
def test_a_healthy_volume_is_not_written_beside_the_mask_of_another(overwrite: bool, part: str, source: Path) -> None:
    mask = source.with_name("out_lesions.nii.gz")
    mask.write_bytes(b"of another volume")
    with pytest.raises(OutputError, match=rf"out_lesions\.nii\.gz: {part}"):
        make(source, overwrite=overwrite)
    assert mask.read_bytes() == b"of another volume"
    assert not source.with_name("out.nii.gz").exists()


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


@pytest.mark.parametrize("overwrite", [False, True])
def test_at_no_moment_a_volume_lacks_its_own_sidecar(
    overwrite: bool, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever the process is killed, no volume is left that counts as the scan of a person."""
    made = {seed: voxels(make(source, f"{seed}.nii.gz", seed=seed, lesions=True)) for seed in (1, 2)}
    out = source.with_name("out.nii.gz")
    if overwrite:
        make(source, seed=1, lesions=True)
    moments = []

    def watched(name: str) -> None:
        real = getattr(os, name)

        def then_look(*given: Any, **more: Any) -> None:
            real(*given, **more)
            if out.exists():
                seed = json.loads(out.with_name("out.json").read_text())["seed"]
                moments.append(name)
                assert np.array_equal(voxels(out), made[seed])

        monkeypatch.setattr(os, name, then_look)

    for name in ("replace", "rename", "unlink"):
        watched(name)
    make(source, seed=2, lesions=True, overwrite=overwrite)
    assert moments


@pytest.mark.parametrize("file", range(3))
def test_a_disk_that_fills_at_any_file_leaves_what_was_there(
    file: int, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(source, lesions=True, seed=1)
    before = {path.name: path.read_bytes() for path in source.parent.iterdir()}
    real, calls = os.fsync, []

    def fsync(stream: Any) -> None:
        calls.append(stream)
        if len(calls) == file + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(stream)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OutputError, match="No space left") as caught:
        make(source, lesions=True, seed=2, overwrite=True)
    assert str(caught.value).startswith(str(source.with_name("out")))
    assert {path.name: path.read_bytes() for path in source.parent.iterdir()} == before


@pytest.mark.parametrize("name", ["file/out.nii.gz", "file/below/out.nii.gz"])
def test_a_folder_that_cannot_be_made_is_told_before_the_work(
    name: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.with_name("file").touch()
    monkeypatch.setattr(synth_module, "is_label_map", lambda *_: pytest.fail("it has begun"))
    with pytest.raises(OutputError, match="cannot be created"):
        make(source, name)


def test_a_source_that_cannot_be_used_leaves_no_new_folder(source: Path) -> None:
    bad = save(source.with_name("bad.nii.gz"), np.zeros(SHAPE, np.int16), np.eye(4))
    before = set(source.parent.rglob("*"))
    with pytest.raises(InputError):
        make(bad, "new/deep/out.nii.gz")
    assert set(source.parent.rglob("*")) == before


def test_a_volume_that_cannot_be_moved_leaves_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(source.parent.iterdir())
    real = os.replace

    def replace(hidden: Path, place: Path) -> None:
        if place == source.with_name("out.nii.gz"):
            raise PermissionError(errno.EACCES, "Permission denied")
        real(hidden, place)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        make(source, lesions=True)
    assert list(source.parent.iterdir()) == before


def test_a_negative_seed_is_refused_and_no_bug(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = source.with_name("made.nii.gz")
    assert main(["synth", str(source), "-o", str(out), "--seed", "-1"]) == 2
    assert "--seed" in (message := capsys.readouterr().err)
    assert "bug" not in message
    assert not out.exists()


def test_the_command_prints_the_path_alone(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = source.with_name("made.nii.gz")
    assert main(["synth", str(source), "-o", str(out), "--contrast", "T2w", "--lesions", "--seed", "2"]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert sorted(p.name for p in source.parent.glob("made*")) == ["made.json", "made.nii.gz", "made_lesions.nii.gz"]
