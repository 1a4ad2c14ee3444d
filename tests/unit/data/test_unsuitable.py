"""Label maps, CT and noise around the head are refused; scans of all kinds are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import phantoms
import pytest
from scipy import ndimage

from uadcli.data.unsuitable import NOISE, ONE_TISSUE, PLATEAUS, SATURATED, refuse, signs
from uadcli.errors import InputError
from uadcli.imaging import template
from uadcli.imaging.volume import Volume, read_scan

PATH = Path("scan.nii")
MAPS = [(1, 0), (1e-9, 0), (1e12, 0), (1, -1024), (3, -7)]


def labels() -> Volume:
    return Volume(template._read("mni_regions_dseg").data, template._read("mni_regions_dseg").affine)


def mask() -> Volume:
    return Volume(template.brain_mask().astype(np.float32), template.head().affine)


def ct() -> Volume:
    """Hounsfield units of a head: air, scalp with fat, skull, brain."""
    rng, inside = np.random.default_rng(0), template.brain_mask()
    skull, scalp = (ndimage.binary_dilation(inside, iterations=n) for n in (3, 6))
    white = template.brain().data > 180
    data = np.full(inside.shape, -1000.0)
    data[scalp] = np.where(rng.random(int(scalp.sum())) < 0.4, -90, 45)
    data[skull] = 1100
    data[inside] = 38
    data[inside & white] = 29
    return Volume((data + rng.normal(0, 6, data.shape)).round().astype(np.float32), template.head().affine)


def ct_in_constant_air() -> Volume:
    """The same with one value everywhere outside the head, as where the table and the air were removed."""
    full = ct()
    head = ndimage.binary_dilation(template.brain_mask(), iterations=6)
    return Volume(np.where(head, full.data, -1024).astype(np.float32), full.affine)


def windowed() -> Volume:
    """A CT as it is shown to look at the brain: 0 to 80 Hounsfield units, in bytes."""
    full = ct()
    return Volume(np.round(np.clip(full.data, 0, 80) * 255 / 80).astype(np.float32), full.affine)


def probabilities() -> Volume:
    """How likely each voxel is brain, smooth at the edge and hardly the same anywhere."""
    soft = ndimage.gaussian_filter(template.brain_mask().astype(np.float64), 1.5)
    soft *= np.random.default_rng(0).uniform(0.998, 1, soft.shape)
    return Volume(soft.astype(np.float32), template.head().affine)


def t2star() -> Volume:
    """A stripped brain of weak contrast with dark veins and iron, as T2* weighting and SWI show it."""
    rng, inside = np.random.default_rng(0), template.brain_mask()
    dark = ndimage.gaussian_filter(rng.normal(0, 1, inside.shape), 1) > 0.4
    signal = np.where(dark, 350, 600) + 0.2 * template.brain().data + rng.normal(0, 30, inside.shape)
    return Volume(np.where(inside, signal, 0).astype(np.float32), template.head().affine)


def negative() -> Volume:
    """A head whose intensities are turned around, as by a slope of -1: black on white."""
    head = template.head()
    return Volume(-head.data, head.affine)


def noisy_negative() -> Volume:
    """The same with noise in the air, which is nearly as bright as anything."""
    head = template.head()
    noise = np.random.default_rng(0).rayleigh(5, head.shape)
    return Volume((-np.maximum(head.data, noise)).astype(np.float32), head.affine)


def uni() -> Volume:
    """A head as MP2RAGE UNI shows it: noise over the whole range where there is no signal."""
    head, rng = template.head(), np.random.default_rng(0)
    noise = rng.uniform(0, 255, head.shape)
    return Volume(np.where(head.data > 15, head.data, noise).astype(np.float32), head.affine)


@pytest.mark.parametrize(("slope", "shift"), MAPS)
@pytest.mark.parametrize(
    ("made", "what"),
    [
        (labels, "label map"),
        (mask, "label map"),
        (probabilities, "label map"),
        (ct, "is a CT"),
        (ct_in_constant_air, "is a CT"),
        (negative, "is a negative"),
        (noisy_negative, "is a negative"),
        (windowed, "highest value, as a CT"),
        (uni, "noise"),
    ],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_files_that_are_certainly_no_scan_are_refused(made, what: str, slope: float, shift: float) -> None:
    volume = made()
    with pytest.raises(InputError, match=what) as caught:
        refuse(Volume((volume.data * slope + shift).astype(np.float32), volume.affine), PATH)
    assert str(caught.value).startswith("scan.nii: ")


@pytest.mark.parametrize(("slope", "shift"), MAPS)
@pytest.mark.parametrize("made", [template.head, template.brain, phantoms.brain], ids=lambda v: str(v.__name__))
def test_scans_are_not_refused(made, slope: float, shift: float) -> None:
    volume = made()
    refuse(Volume((volume.data * slope + shift).astype(np.float32), volume.affine), PATH)


@pytest.mark.parametrize("background", [-1024, -32768])
@pytest.mark.parametrize("brightest", [1, 255, 4000])
@pytest.mark.parametrize("made", [template.brain, phantoms.brain, t2star], ids=lambda v: str(v.__name__))
def test_a_background_far_below_the_brain_is_not_the_air_of_a_ct(made, brightest: float, background: float) -> None:
    volume = made()
    brain = volume.data * (brightest / volume.data.max())
    refuse(Volume(np.where(volume.data > 0, brain, background).astype(np.float32), volume.affine), PATH)


@pytest.mark.data
@pytest.mark.parametrize("background", [-1024, -32768])
def test_real_brains_on_a_background_far_below_are_far_from_all_limits(data: Path, background: float) -> None:
    files = sorted(data.glob("mslesseg_mni/*/anat/*desc-brain_*.nii.gz"))
    assert files
    for path in files:
        volume = read_scan(path).volume
        moved = np.where(volume.data == 0, background, volume.data).astype(np.float32)
        found = signs(Volume(moved, volume.affine))
        assert found.one_tissue < 0.75 * ONE_TISSUE, path.name
        assert found.plateaus < 0.5 * PLATEAUS, path.name


@pytest.mark.parametrize("made", [labels, template.head], ids=lambda v: str(v.__name__))
def test_few_steps_of_single_precision_are_no_crash(made) -> None:
    volume = made()
    squeezed = volume.data.astype(np.float64) * (2e-4 / volume.data.max()) + 1000  # three or four values
    with pytest.raises(InputError, match="label map"):
        refuse(Volume(squeezed.astype(np.float32), volume.affine), PATH)


def test_a_normalised_brain_with_zeros_around_is_no_label_map() -> None:
    brain = phantoms.brain()
    inside = brain.data > 0
    z = (brain.data - brain.data[inside].mean()) / brain.data[inside].std()
    refuse(Volume(np.where(inside, z, 0).astype(np.float32), brain.affine), PATH)


def test_noise_around_the_head_does_not_matter_where_the_brain_is_given() -> None:
    refuse(uni(), PATH, masked=True)


def test_an_empty_volume_has_no_signs_of_anything_but_a_mask() -> None:
    assert signs(Volume(np.zeros((20, 20, 20), np.float32), np.eye(4))).noise == 0


@pytest.mark.data
def test_real_scans_are_far_from_all_limits(data: Path) -> None:
    files = [
        p for p in sorted(data.rglob("*.nii.gz")) if p.name.endswith(("_T1w.nii.gz", "_T2w.nii.gz", "_FLAIR.nii.gz"))
    ]
    for path in files[::12]:
        found = signs(read_scan(path).volume)
        assert found.plateaus < 0.5 * PLATEAUS, path.name
        assert found.one_tissue < 0.75 * ONE_TISSUE, path.name
        assert found.noise < 0.6 * NOISE, path.name
        assert found.saturated < 0.5 * SATURATED, path.name
