"""The map on the scan's own grid: more detail where the grid is finer than the model's, the same findings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from tests import models
from uadcli.config import DetectConfig, EncoderConfig, ModelConfig, UNetConfig
from uadcli.data.prepare import Prepared, to_native
from uadcli.imaging import geometry, intensity, template
from uadcli.imaging.slices import FINE_AFFINE, FINE_SHAPE, GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import Scan, Volume, read_scan
from uadcli.model import own_grid
from uadcli.model.model import Model, Part, load
from uadcli.model.subject import Subject
from uadcli.scoring.healthy_reference import Reference
from uadcli.scoring.metrics import average_precision

TAIL = ((0.1, 1.0), (0.01, 2.0), (0.001, 3.0))
PLACE = (96, 100, 80)  # of the lesion, in voxels of 1 mm


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    unet = UNetConfig(channels=8, multipliers=(1, 2), blocks=1, unshuffle=2, head_channels=8, embedding=16)
    tiny = ModelConfig(
        unet=unet, encoder=EncoderConfig(blocks=(1, 1), width=4, condition=16, norm="group", unshuffle=2)
    )
    folder = models.export(tmp_path_factory.mktemp("models") / "tiny", tiny)
    return load(folder / "tiny.safetensors")


@dataclass(frozen=True)
class Phantom:
    """A brain-shaped ellipsoid at 1 mm with a lesion of 3 mm, its voxels, and what detection makes of it."""

    scan: Scan
    levelled: Volume
    prepared: Prepared
    lesion: np.ndarray


def phantom(folder: Path, contrast: float = 60.0, noise: float = 4.0, field: float = 0.0) -> Phantom:
    """`contrast` of the lesion in intensities, next to a brain of 100 with white `noise`; `field`: a bias along x."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in FINE_SHAPE], indexing="ij"), axis=-1)
    middle = (np.array(FINE_SHAPE) - 1) / 2
    inside = (((grid - middle) / np.array([65.0, 80.0, 60.0])) ** 2).sum(axis=-1) < 1
    lesion = np.abs(grid - np.array(PLACE)).max(axis=-1) <= 1
    tissue = ndimage.gaussian_filter(np.random.default_rng(1).normal(0, 1, FINE_SHAPE), 6)
    data = 100 + 8 * tissue / tissue.std() + np.random.default_rng(0).normal(0, noise, FINE_SHAPE)
    bias = np.exp(field * grid[..., 0] / FINE_SHAPE[0])  # at the lesion in the middle it is not 1
    data = np.where(inside, (data + contrast * lesion) * bias, 0)
    image = nib.Nifti1Image(data.astype(np.float32), FINE_AFFINE)
    image.set_sform(FINE_AFFINE, 1)
    image.to_filename(folder / "scan.nii.gz")
    scan = read_scan(folder / "scan.nii.gz")
    levelled = scan.volume
    coarse = geometry.resample(levelled.data, levelled.affine, GRID_SHAPE, GRID_AFFINE, order=3, antialias=True)
    mask = geometry.resample(inside.astype(np.float32), FINE_AFFINE, GRID_SHAPE, GRID_AFFINE) >= 0.5
    known = geometry.resample(bias.astype(np.float32), FINE_AFFINE, GRID_SHAPE, GRID_AFFINE)
    corrected = np.where(mask, coarse / np.where(mask, known, 1), 0).astype(np.float32)
    prepared = Prepared(corrected, mask, np.eye(4), "none", 1300.0, 0.0, 1.0, 1.0)
    return Phantom(scan, levelled, prepared, lesion)


@pytest.fixture(scope="module")
def bright(tmp_path_factory: pytest.TempPathFactory) -> Phantom:
    return phantom(tmp_path_factory.mktemp("bright"))


class Joined(Subject):
    """A subject whose model joins the robust z with the scaled intensity, which is not of single voxels."""

    def parts(self, name: str) -> Sequence[Part]:
        return [Part("robust-z", TAIL, 0.6), Part("intensity", TAIL, 0.4)] if name == "fisher" else []

    def score(self, name: str) -> np.ndarray:
        return 2 * self.x if name == "intensity" else super().score(name)


def subject(of: Phantom, model: Model, contrast: str = "FLAIR") -> Joined:
    x = of.prepared.scaled(DetectConfig().preprocess)
    return Joined(model, x, x, of.prepared.mask, DetectConfig(), contrast, unclipped=of.prepared.data)


def own(of: Phantom, model: Model, name: str, contrast: str = "FLAIR") -> np.ndarray | None:
    return own_grid.own_map(subject(of, model, contrast), name, of.levelled, of.prepared)


@pytest.mark.parametrize("name", ["robust-z", "fisher"])
def test_a_lesion_of_three_millimetres_stands_out_more_than_on_the_grid_of_the_model(
    bright: Phantom, model: Model, name: str
) -> None:
    found = own(bright, model, name)
    assert found is not None
    coarse = to_native(own_coarse(bright, model, name), bright.scan, bright.prepared, 1)
    assert found.shape == bright.scan.volume.shape
    assert found[bright.lesion].mean() > 1.2 * coarse[bright.lesion].mean()
    assert average_precision(found, bright.lesion) > average_precision(coarse, bright.lesion) + 0.1


def own_coarse(of: Phantom, model: Model, name: str) -> np.ndarray:
    from uadcli.scoring.fusion import fisher_score

    one = subject(of, model)
    if name != "fisher":
        return one.score(name)
    return fisher_score([(one.score(p.name), p.tail, p.share) for p in one.parts(name)], one.mask)


def test_dark_lesions_are_detailed_where_lesions_are_dark(tmp_path: Path, model: Model) -> None:
    dark = phantom(tmp_path, contrast=-60.0)
    found, other = own(dark, model, "robust-z", "T1w"), own(dark, model, "robust-z")
    assert found is not None
    assert other is not None
    coarse = to_native(subject(dark, model, "T1w").score("robust-z"), dark.scan, dark.prepared, 1)
    assert found[dark.lesion].mean() > 1.2 * coarse[dark.lesion].mean()
    assert other[dark.lesion].max() < 1


def test_a_scan_without_detail_has_the_map_of_the_model_s_grid(tmp_path: Path, model: Model) -> None:
    smooth = phantom(tmp_path, contrast=0.0, noise=0.0)
    found = own(smooth, model, "robust-z")
    assert found is not None
    coarse = to_native(subject(smooth, model).score("robust-z"), smooth.scan, smooth.prepared, 1)
    deep = ndimage.binary_erosion(
        to_native(smooth.prepared.mask.astype(np.float32), smooth.scan, smooth.prepared, 1) > 0.99, iterations=4
    )
    assert np.abs(found - coarse)[deep].mean() < 0.03
    assert not found[
        ~(to_native(smooth.prepared.mask.astype(np.float32), smooth.scan, smooth.prepared, 1) >= 0.5)
    ].any()


def test_detail_is_corrected_by_the_bias_field_and_does_not_depend_on_the_scale(
    tmp_path: Path, bright: Phantom
) -> None:
    biased = phantom(tmp_path, field=1.0)
    plain, other = (own_grid.detail(p.levelled, p.prepared)[p.lesion].mean() for p in (bright, biased))
    assert other == pytest.approx(plain, rel=0.15)
    scaled = Volume(3 * bright.levelled.data, bright.levelled.affine)
    prepared = replace(bright.prepared, data=3 * bright.prepared.data)
    again = own_grid.detail(scaled, prepared)[bright.lesion].mean()
    assert again == pytest.approx(plain, rel=1e-4)
    values = bright.prepared.data[bright.prepared.mask]
    assert plain < (160 - 100) / 100 * np.median(values) / intensity.robust_spread(values)  # less than all of it


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 1, 1), True), ((2, 2, 1), True), ((2, 2, 2), False), ((0.9, 0.9, 5), False), ((0.9, 0.9, 2.5), False)],
)
def test_only_a_grid_that_is_nowhere_coarser_has_more_detail(size: tuple[float, ...], expected: bool) -> None:
    assert own_grid.finer(np.diag([*size, 1.0])) is expected
    turned = np.diag([*size, 1.0])[[1, 2, 0, 3]]
    assert own_grid.finer(turned) is expected


def test_scores_of_neighbourhoods_and_smoothed_scans_have_no_more_detail(bright: Phantom, model: Model) -> None:
    assert own(bright, model, "bright") is None
    smoothed = replace(model.card, curvature_flow=10)
    other = Model(replace(model.weights, card=smoothed))
    assert own(bright, other, "robust-z") is None


def test_normalised_to_healthy_scans_the_detail_is_in_their_deviations(
    bright: Phantom, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = tuple(n // 2 for n in GRID_SHAPE)
    known = Reference(np.full(half, 0.5, np.float32), np.full(half, 2.0, np.float32))
    monkeypatch.setattr(Subject, "reference", lambda self, name: known)
    plain, z = (own(bright, model, name) for name in ("robust-z", "z-robust-z"))
    assert plain is not None
    assert z is not None
    inner = bright.lesion & (plain > 1)
    assert np.allclose(z[inner], (plain[inner] - 0.5) / 2, atol=0.02)


def test_findings_keep_their_place_and_get_the_outline_of_their_own_map(bright: Phantom, model: Model) -> None:
    found = own(bright, model, "robust-z")
    assert found is not None
    labels = np.zeros(GRID_SHAPE, np.uint8)
    labels[tuple(n // 2 for n in PLACE)] = 1
    marked = own_grid.outlines(labels, found, 3.0, bright.scan, bright.prepared)
    assert marked[bright.lesion].mean() > 0.6
    assert (found[marked] > 3).all()
    grown = ndimage.binary_dilation(bright.lesion, np.ones((3, 3, 3)), iterations=4)
    assert not marked[~grown].any()
    assert not own_grid.outlines(np.zeros_like(labels), found, 3.0, bright.scan, bright.prepared).any()


@pytest.mark.parametrize("thick", [False, True])
def test_every_finding_is_in_the_mask(bright: Phantom, thick: bool) -> None:
    """Also between the centres of thick slices, and where its own map stays below the threshold."""
    scan, own = bright.scan, np.zeros(bright.scan.volume.shape, np.float32)
    if thick:
        affine = scan.volume.affine @ np.diag([1, 1, 5, 1])
        affine[2, 3] += 2  # the centre of five slices
        volume = Volume(scan.volume.data.reshape(*FINE_SHAPE[:2], -1, 5).mean(axis=3), affine)
        scan = replace(scan, volume=volume)
    labels = np.zeros(GRID_SHAPE, np.uint8)
    for number, z in enumerate((20, 30, 31, 40, 41, 42), start=1):
        labels[10 * number : 10 * number + 2, 50, z] = number
    found = np.where(labels > 0, 5, 0).astype(np.float32)
    _, mask = own_grid.on_scan(found, labels, None if thick else own, 3.0, scan, bright.prepared)
    nearest = geometry.resample(labels.astype(np.float32), GRID_AFFINE, FINE_SHAPE, FINE_AFFINE, order=0)
    back = geometry.apply(np.linalg.inv(FINE_AFFINE) @ scan.volume.affine, np.argwhere(mask).astype(float))
    numbers = ndimage.grey_dilation(nearest, size=(3, 3, 7))[tuple(np.rint(back).astype(int).T)]
    assert set(numbers) == set(range(1, 7))
    assert mask.sum() <= 60


def test_a_finding_that_is_seen_gets_no_further_voxel(bright: Phantom) -> None:
    labels = np.zeros(GRID_SHAPE, np.uint8)
    labels[40:44, 50:54, 40:44] = 1
    found = np.where(labels > 0, 5, 0).astype(np.float32)
    _, mask = own_grid.on_scan(found, labels, None, 3.0, bright.scan, bright.prepared)
    outline = to_native((labels > 0).astype(np.float32), bright.scan, bright.prepared, 1) >= 0.5
    np.testing.assert_array_equal(mask, outline)


def test_a_finding_that_one_voxel_of_its_own_map_shows_gets_no_further_voxel(bright: Phantom) -> None:
    """Wherever the voxel lies between the centres of those of the model's grid."""
    labels = np.zeros(GRID_SHAPE, np.uint8)
    labels[44:46, 50:52, 40:42] = 7
    for place in np.ndindex(2, 2, 2):
        own = np.zeros(FINE_SHAPE, np.float32)
        own[tuple(np.add((89, 101, 81), place))] = 5
        np.testing.assert_array_equal(own_grid.outlines(labels, own, 3.0, bright.scan, bright.prepared), own > 3)


def test_what_lies_far_from_the_brain_changes_nothing(bright: Phantom, model: Model) -> None:
    """A scan with a wide margin of other intensities has the same map, at its place."""
    pad = 24
    wide = np.pad(bright.levelled.data, pad, constant_values=500)
    affine = bright.levelled.affine.copy()
    affine[:3, 3] -= pad
    found = own(bright, model, "robust-z")
    again = own(replace(bright, levelled=Volume(wide, affine)), model, "robust-z")
    assert found is not None
    assert again is not None
    assert again.shape == wide.shape
    assert np.allclose(again[pad:-pad, pad:-pad, pad:-pad], found, atol=1e-3)
    assert again.sum() == pytest.approx(found.sum())


def test_the_prior_of_fisher_holds_on_the_own_grid_too(bright: Phantom, model: Model) -> None:
    card = replace(model.card, odds_outside_white_matter=0.1)
    wary = replace(model, weights=replace(model.weights, card=card))
    before, after = own(bright, model, "fisher"), own(bright, wary, "fisher")
    assert before is not None
    assert after is not None
    white = to_native(template.white_matter(), bright.scan, bright.prepared, 1)
    inside, outside = white > 1 - 1e-6, (white < 1e-6) & (before > 1)
    assert inside.sum() > 1000 < outside.sum()
    np.testing.assert_allclose(after[inside], before[inside], atol=1e-4)
    np.testing.assert_allclose(after[outside], before[outside] - 1, atol=1e-4)
