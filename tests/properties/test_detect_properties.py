"""What must hold of a whole detection, on phantoms: orientation, batch size, place of the finding, repeatability."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import phantoms
import pytest

from uadcli.config import DetectConfig, PreprocessConfig, ReconstructionConfig
from uadcli.data.prepare import Prepared, Stripped
from uadcli.detection import detect as detection
from uadcli.detection.detect import detect
from uadcli.detection.options import DetectOptions
from uadcli.errors import InputError, QualityError
from uadcli.imaging import geometry
from uadcli.imaging.volume import Scan
from uadcli.model.model import Model
from uadcli.model.subject import Subject
from uadcli.scoring.metrics import dice

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("properties")]  # one process for what its tests share
LESION = (-32.0, -10.0, 28.0)  # left, in the white matter
SLAB = slice(35, 36 + DetectConfig().reconstruction.batch_size)  # of the axial slices of the model's grid
OPTIONS = DetectOptions(contrast="T1w", device="cpu", only_map=True)


def _thick_scan() -> phantoms.Volume:
    """A brain with a dark ball on the left, rotated, shifted, on a 1.2 x 1.2 x 4 mm grid."""
    source = phantoms.brain(LESION, 13)
    affine = phantoms.rotation((9, -6, 7)) @ np.diag([1.2, 1.2, 4.0, 1])
    shape = (150, 180, 46)
    affine[:3, 3] = np.array([6, -25, 10]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    data = geometry.resample(source.data, source.affine, shape, affine, order=1)
    return phantoms.Volume(np.where(data < 3, 0, data).round().astype(np.float32), affine)


def _map(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def _once(work: Callable[..., np.ndarray], seen: Callable[..., tuple[object, ...]]) -> Callable[..., np.ndarray]:
    """The work, done once for the same bits of arrays, names and settings, as far as `seen` finds them in its input."""
    done = dict[tuple[object, ...], np.ndarray]()

    def found(*given: object) -> np.ndarray:
        key = tuple(one.tobytes() if isinstance(one, np.ndarray) else repr(one) for one in seen(*given))
        if key not in done:
            done[key] = work(*given)
        return done[key].copy()

    return found


class Once:
    """Prepares a scan, rebuilds and scores it once for all tests that ask for this, if every bit of it is the same.

    Its place and all settings have to be the same, too. No test of whether a detection repeats itself asks for this.
    """

    def __init__(self) -> None:
        self.prepared = dict[tuple[object, ...], tuple[Prepared, Stripped]]()
        self.real = detection.prepare
        self.reconstruct = _once(Model.reconstruct, lambda m, x, mask, c, *_: (m.card.name, x, mask, c))
        self.score = _once(
            Subject.score,
            lambda s, name: (s.model.card.name, s.x, s.recon, s.mask, s.unclipped, s.config, s.contrast, name),
        )

    def prepare(self, scan: Scan, config: PreprocessConfig, **more: Any) -> tuple[Prepared, Stripped]:
        settings = repr((config, more["brain_mask"], more["device"]))
        key = (scan.volume.data.tobytes(), scan.volume.affine.tobytes(), settings)
        if key not in self.prepared:
            self.prepared[key] = self.real(scan, config, **more)
        return copy.deepcopy(self.prepared[key])

    def put(self, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(detection, "prepare", self.prepare)
        patch.setattr(Model, "reconstruct", self.reconstruct)
        patch.setattr(Subject, "score", self.score)


@pytest.fixture(scope="module")
def known() -> Once:
    """What the tests of this module have computed."""
    return Once()


@pytest.fixture
def computed_once(known: Once, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another test has computed of the very same input is not computed again."""
    known.put(monkeypatch)


@pytest.fixture(scope="module")
def upright(known: Once, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The map of the scan as it is."""
    folder, volume = tmp_path_factory.mktemp("upright"), _thick_scan()
    scan = phantoms.save(folder / "a.nii.gz", volume.data, volume.affine)
    with pytest.MonkeyPatch.context() as patch:
        known.put(patch)
        return detect(scan, folder / "map.nii.gz", options=OPTIONS).map_path


@pytest.mark.parametrize("index", [5, 38])
def test_axis_order_does_not_change_the_map_in_world_space(index: int, upright: Path, tmp_path: Path) -> None:
    volume = _thick_scan()
    orientation = phantoms.orientations()[index]
    turned = phantoms.turned(volume, orientation)
    scan = phantoms.save(tmp_path / "b.nii.gz", turned.data, turned.affine)
    two = _map(detect(scan, tmp_path / "bm.nii.gz", options=OPTIONS).map_path)
    back = nib.orientations.apply_orientation(_map(upright), orientation)
    assert two.shape == back.shape
    assert np.abs(two - back).max() < 2e-3
    assert back.max() > 0.05


def _of_batches(scan: Path, size: int, name: str) -> Path:
    """The map of a scan whose slices are reconstructed so many at a time."""
    config = DetectConfig(reconstruction=ReconstructionConfig(batch_size=size))
    return detect(scan, scan.with_name(name), config=config, options=OPTIONS).map_path


def test_a_detection_repeats_itself(upright: Path, tmp_path: Path) -> None:
    volume = _thick_scan()
    scan = phantoms.save(tmp_path / "a.nii.gz", volume.data, volume.affine)
    again = detect(scan, tmp_path / "again.nii.gz", options=OPTIONS).map_path
    assert again.read_bytes() == upright.read_bytes()


@pytest.mark.usefixtures("computed_once")
def test_batch_size_does_not_change_the_map(known: Once, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slab(scan: Scan, config: PreprocessConfig, **more: Any) -> tuple[Prepared, Stripped]:
        """Of the brain one slice more than there is in a batch, with the ball in the middle."""
        prepared, stripped = known.prepare(scan, config, **more)
        mask = np.zeros_like(prepared.mask)
        mask[..., SLAB] = prepared.mask[..., SLAB]
        return dataclasses.replace(prepared, mask=mask, data=np.where(mask, prepared.data, 0)), stripped

    monkeypatch.setattr(detection, "prepare", slab)
    volume = _thick_scan()
    scan = phantoms.save(tmp_path / "a.nii.gz", volume.data, volume.affine)
    one = _map(_of_batches(scan, 1, "1.nii.gz"))
    near = 1e-4 * one.max()  # as --help says; beyond the healthy tail `fisher` multiplies rounding, here 2.6e-5
    for size in (7, DetectConfig().reconstruction.batch_size):
        assert np.abs(one - _map(_of_batches(scan, size, f"{size}.nii.gz"))).max() < near


@pytest.mark.usefixtures("computed_once")
def test_a_dark_ball_on_the_left_is_found_on_the_left(tmp_path: Path) -> None:
    volume = _thick_scan()
    scan = phantoms.save(tmp_path / "a.nii.gz", volume.data, volume.affine)
    result = detect(scan, options=dataclasses.replace(OPTIONS, only_map=False, space="both", save=("all",)))
    written = {name: tmp_path / file for name, file in result.sidecar["outputs"].items()}
    assert all(path.exists() for path in written.values())
    score = _map(written["map"])
    inside = phantoms.ball(volume, LESION, 9)
    ring = phantoms.ball(volume, LESION, 30) & ~phantoms.ball(volume, LESION, 18) & (volume.data > 0)
    assert score[inside].mean() > 3 * score[ring].mean()
    nearest = min(
        np.linalg.norm(np.array(c["centroid_native_mm"]) - np.array(LESION))
        for c in result.sidecar["anomaly"]["components"]
    )
    assert nearest < 8
    saved = json.loads(written["sidecar"].read_text())
    assert saved["contrast"] == {"value": "T1w", "source": "option"}
    assert saved["strip"] == "already stripped"
    assert saved["qc"]["verdict"] in {"pass", "warn"}  # the template brain is a large one
    assert sum(c["volume_ml"] for c in saved["anomaly"]["components"]) > 0.5 * 9.2
    ball = min(
        saved["anomaly"]["components"],
        key=lambda c: np.linalg.norm(np.array(c["centroid_native_mm"]) - np.array(LESION)),
    )
    assert ball["regions"][0]["name"] == "left cerebral white matter"
    transform = json.loads(written["transform"].read_text())
    product = np.array(transform["mni_to_native"]) @ np.array(transform["native_to_mni"])
    assert np.allclose(product, np.eye(4), atol=1e-9)
    assert np.array_equal(_map(written["mask"]) > 0, _map(written["mask"]) == 1)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("computed_once")
def test_a_threshold_chosen_by_labels_says_so_and_marks_as_it_says(tmp_path: Path) -> None:
    volume = _thick_scan()
    scan = phantoms.save(tmp_path / "a.nii.gz", volume.data, volume.affine)
    ball = phantoms.ball(volume, LESION, 13)
    labels = phantoms.save(tmp_path / "lesion.nii.gz", ball.astype(np.float32), volume.affine)
    options = dataclasses.replace(OPTIONS, only_map=False, threshold="best-dice", labels=labels)
    result = detect(scan, options=options).sidecar
    rule = result["threshold"]["rule"]
    assert "oracle" in rule
    assert result["threshold"]["kind"] == "best-dice"
    assert any("lesion labels" in text for text in result["warnings"])
    told = float(rule.split("Dice ")[1].split(")")[0])
    marked = _map(tmp_path / result["outputs"]["mask"]) > 0
    assert dice(marked, ball) == pytest.approx(told, abs=0.05)  # the mask's rim is interpolated by itself
    assert told > 0.4


@pytest.mark.usefixtures("no_picture")
def test_a_brain_that_cannot_be_placed_fails_quality_control(tmp_path: Path) -> None:
    """Half a brain: the map is written, the sidecar says `fail`, and `strict` ends with its error."""
    volume = phantoms.brain()
    data = volume.data.copy()
    data[:, data.shape[1] // 2 :] = 0
    scan = phantoms.save(tmp_path / "a.nii.gz", data, volume.affine)
    options = dataclasses.replace(OPTIONS, only_map=False, strict=True, score="absolute")
    config = DetectConfig(preprocess=PreprocessConfig(strip="none"))
    with pytest.raises(QualityError) as caught:
        detect(scan, tmp_path / "m.nii.gz", config=config, options=options)
    assert caught.value.exit_code == 7
    assert (tmp_path / "m.nii.gz").exists()
    assert json.loads((tmp_path / "m.json").read_text())["qc"]["verdict"] == "fail"


@pytest.mark.usefixtures("computed_once", "no_picture")
def test_a_scan_without_orientation_has_findings_without_sides(tmp_path: Path) -> None:
    volume = _thick_scan()
    image = nib.AnalyzeImage(volume.data.astype(np.int16)[::-1], None)
    image.header.set_zooms((1.2, 1.2, 4.0))
    image.to_filename(tmp_path / "a_T1w.img")
    config = DetectConfig(preprocess=PreprocessConfig(strip="none"))
    for geometry_, known in (("auto", False), ("trust", True)):
        options = dataclasses.replace(OPTIONS, only_map=False, html=True, geometry=geometry_, score="absolute")
        folder = tmp_path / geometry_
        folder.mkdir()
        result = detect(tmp_path / "a_T1w.img", folder / "map.nii.gz", config=config, options=options)
        found = result.findings
        assert found
        assert result.sidecar["input"]["sides_known"] == known
        assert any("left and right are unknown" in text for text in result.sidecar["warnings"]) != known
        assert {type(one["side"]) for one in found} == ({str} if known else {type(None)})
        names = " ".join(part["name"] for one in found for part in one["regions"] or [])
        assert ("left" in names or "right" in names) == known
        assert ("Left and right are unknown" in (folder / "map.html").read_text()) != known
        assert int(result.image.header["sform_code"]) == int(known)


def test_a_grid_that_is_too_small_for_a_brain_is_refused(tmp_path: Path) -> None:
    volume = phantoms.brain(LESION)
    mouse = np.diag([0.1, 0.1, 0.1, 1.0]) @ volume.affine
    path = phantoms.save(tmp_path / "mouse_T1w.nii.gz", volume.data, mouse)
    with pytest.raises(InputError, match=r"mouse_T1w.*covers 19 x 23 x 19 mm"):
        detect(path, options=OPTIONS)


LINEAR = {"tiny": (1e-9, 0.0, np.float32), "huge and negative": (1e12, -1024e12, np.float32)}


@pytest.mark.usefixtures("computed_once", "no_picture")
def test_an_increasing_linear_map_of_the_intensities_changes_nothing(tmp_path: Path) -> None:
    """The whole chain, with the guess of the contrast: whole numbers give the same bytes however they were stored.

    The networks see the same bits each time, or work again.
    """
    volume = _thick_scan()
    options = DetectOptions(device="cpu", save=("brain",))
    found = {}
    for name, (slope, shift, dtype) in {"as it is": (1.0, 0.0, np.int16), **LINEAR}.items():
        stored = slope * volume.data.astype(np.float64) + shift
        scan = phantoms.save(tmp_path / f"{name}.nii.gz", stored, volume.affine, dtype)
        found[name] = detect(scan, tmp_path / name / "map.nii.gz", options=options).sidecar
    right = found.pop("as it is")
    assert right["contrast"] == {"value": "T1w", "source": "image"}
    assert right["anomaly"]["components"]
    for name, sidecar in found.items():
        for part in ("contrast", "strip", "brain_volume_ml", "registration", "anomaly", "threshold", "qc", "gate"):
            assert sidecar[part] == right[part], (name, part)
        for key in ("map", "mask", "brain"):
            other = _map(tmp_path / name / sidecar["outputs"][key])
            assert np.array_equal(other, _map(tmp_path / "as it is" / right["outputs"][key])), (name, key)
