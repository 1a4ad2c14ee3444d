"""Several contrasts of one patient: joined, left out, or refused."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cohort
import nibabel as nib
import numpy as np
import phantoms
import pytest

import uadcli
from uadcli.config import DetectConfig, PreprocessConfig
from uadcli.data import artefacts, same_patient
from uadcli.data.artefacts import Artefacts
from uadcli.data.same_patient import Alignment
from uadcli.detection.options import DetectOptions
from uadcli.errors import InputError, OutputError, QualityError, UsageError
from uadcli.imaging import template
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.imaging.volume import Volume
from uadcli.model import joint, out_of_distribution, own_grid
from uadcli.model.out_of_distribution import Distance
from uadcli.model.subject import Subject
from uadcli.scoring.calibration import rarity
from uadcli.scoring.metrics import best_dice

TAIL = [(0.05, 0.05), (0.01, 0.1), (0.001, 0.15), (0.0001, 0.2)]
LESION = (30.0, -20.0, 20.0)
SAME = Alignment(np.eye(4), np.eye(4), 0.99, 0.5, 0.1)


def brain(contrast: str, seed: int = 0, whole: bool = False) -> np.ndarray:
    """A slab of a brain on the model's grid in the intensities of a contrast, with a ball that is abnormal in it."""
    tissue, inside = template.on_grid("mni_tissue_dseg"), template.on_grid("mni_brain_mask") > 0
    if not whole:
        inside[..., :38] = inside[..., 54:] = False  # few slices, so that tests are fast
    levels = {"T1w": (0, 60, 150, 220), "FLAIR": (0, 25, 130, 110), "T2w": (0, 250, 110, 80)}[contrast]
    data = np.take(levels, tissue.astype(int)).astype(np.float32)
    data = np.where(inside, np.maximum(data, 20) + np.random.default_rng(seed).normal(0, 4, data.shape), 0)
    ball = phantoms.ball(Volume(data, GRID_AFFINE), LESION, 14.0) & inside
    return np.where(ball, 40 if contrast == "T1w" else 290, np.where(inside, np.maximum(data, 1), 0))


def lab(folder: Path) -> Path:
    """A tiny model of random numbers that knows the healthy tails of every contrast."""
    names = ("T1w", "FLAIR", "T2w")
    return cohort.base(
        folder, cohort.TINY, None, contrasts=names, scores=dict.fromkeys(names, "absolute"),
        thresholds={"absolute": dict.fromkeys(names, 0.1)}, tails={"absolute": dict.fromkeys(names, TAIL)},
    )  # fmt: skip


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_picture: None) -> Callable[..., Any]:
    """Detect in the scans of a patient whose preparation is a look."""
    cohort.as_they_are(monkeypatch)
    folder = lab(tmp_path / "lab")
    monkeypatch.setattr(artefacts, "measure", lambda *_: Artefacts())  # tissues without transitions look noisy
    monkeypatch.setattr(same_patient, "align", lambda *_: SAME)
    monkeypatch.setattr(joint, "WEIGHTS", {})  # equal ones, so that each contrast can be seen in the map
    for name in ("T1w", "FLAIR", "T2w"):
        phantoms.save(tmp_path / f"sub-1_{name}.nii.gz", brain(name), GRID_AFFINE)

    def run(*scans: str, **options: Any) -> uadcli.detection.detect.DetectResult:
        paths = [tmp_path / f"sub-1_{one}.nii.gz" for one in scans]
        chosen = DetectOptions(weights=str(folder), device="cpu", threads=1, overwrite=True, **options)
        return uadcli.detect(paths, tmp_path / "out" / "map.nii.gz", config=DetectConfig(), options=chosen)

    return run


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("out/*"))


def test_two_contrasts_are_joined_on_the_grid_of_the_first(given: Callable[..., Any], tmp_path: Path) -> None:
    alone, maps = {}, {}
    for name in ("FLAIR", "T1w"):
        alone[name] = given(name)
        maps[name] = np.asarray(alone[name].image.dataobj)  # the next one replaces the file
    both = given("FLAIR", "T1w", space="both")
    joint = np.asarray(both.image.dataobj)
    mean = (rarity(maps["FLAIR"], TAIL) + rarity(maps["T1w"], TAIL)) / 2
    assert joint == pytest.approx(mean, abs=1e-3)
    written = json.loads((tmp_path / "out" / "map.json").read_text())
    assert written["score"] == "joined"
    assert written["input"]["name"] == "sub-1_FLAIR.nii.gz"
    assert written["threshold"]["kind"] == "rate"
    assert "not calibrated on healthy subjects" in written["threshold"]["rule"]
    assert written["anomaly"]["healthy_scans"] is None
    flair, t1w = written["contrasts"]
    assert (flair["contrast"], t1w["contrast"]) == ("FLAIR", "T1w")
    assert flair["weight"] == t1w["weight"] == 0.5
    assert flair["registration"] is None
    assert t1w["registration"]["similarity"] == 0.5
    for row, result in zip((flair, t1w), alone.values(), strict=True):
        assert row["findings"] == len(result.findings)
        assert row["volume_ml"] == pytest.approx(result.sidecar["anomaly"]["volume_ml"])
        assert row["sha256"] == result.sidecar["input"]["sha256"]
        assert row["left_out"] is None
    assert {"name": "contrasts", "value": None, "verdict": "pass", "text": "all contrasts were joined"} in (
        written["qc"]["checks"]
    )
    assert "map_space-MNI152NLin2009cAsym.nii.gz" in files(tmp_path)


def test_only_the_first_scan_is_mapped_on_its_own_grid(
    given: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evidence of the others is joined on the model's grid, and the detail of their own would be thrown away."""
    mapped, own_map = [], own_grid.own_map

    def noted(subject: Subject, *rest: Any) -> Any:
        mapped.append(subject.contrast)
        return own_map(subject, *rest)

    monkeypatch.setattr(own_grid, "own_map", noted)
    both = given("FLAIR", "T1w")
    assert mapped == ["FLAIR"]
    assert [one["findings"] is None for one in both.sidecar["contrasts"]] == [False, False]


def test_a_single_scan_has_no_contrasts(given: Callable[..., Any]) -> None:
    assert given("FLAIR").sidecar["contrasts"] is None


def test_the_evidence_of_a_further_scan_is_brought_to_the_first(
    given: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shifted = np.eye(4)
    shifted[0, 3] = 8.0  # four voxels
    monkeypatch.setattr(same_patient, "align", lambda *_: replace(SAME, to_other_grid=shifted))
    flair, t1w = (rarity(np.asarray(given(name).image.dataobj), TAIL) for name in ("FLAIR", "T1w"))
    brains = [brain(name) > 0 for name in ("FLAIR", "T1w")]
    moved, known = np.zeros_like(t1w), np.zeros_like(brains[1])
    moved[:-4], known[:-4] = t1w[4:], brains[1][4:]
    alone = joint.as_rare(flair, [1.0], [0.5, 0.5])
    expected = np.where(brains[0], np.where(known, (flair + moved) / 2, alone), 0)
    assert np.asarray(given("FLAIR", "T1w").image.dataobj) == pytest.approx(expected, abs=1e-3)


def test_the_page_in_native_space_shows_each_contrast_and_the_mask_where_they_are(
    given: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifted = np.eye(4)
    shifted[0, 3] = 8.0  # four voxels: a point of the first scan is found there in the other
    monkeypatch.setattr(same_patient, "align", lambda *_: replace(SAME, matrix=shifted))
    given("FLAIR", "T1w", html="niivue", save=("brain",))
    html = (tmp_path / "out" / "map.html").read_text(encoding="utf-8")
    data = json.loads(html.split('id="data">')[1].split("</script>")[0])
    assert [one["name"] for one in data["pictures"]] == ["scan", "T1w"]

    def whole(packed: str) -> np.ndarray:
        image = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(packed)))
        low = np.round(np.linalg.inv(GRID_AFFINE) @ image.affine[:, 3])[:3].astype(int)
        volume = np.zeros((96, 96, 80))
        volume[tuple(slice(a, a + n) for a, n in zip(low, image.shape, strict=True))] = image.get_fdata()
        return volume

    inside = np.asarray(nib.load(tmp_path / "out" / "map_brain.nii.gz").dataobj) > 0
    first, second = (whole(one["file"]) for one in data["pictures"])
    assert not first[~inside].any()
    assert not second[~inside].any()
    moved = np.zeros((96, 96, 80))
    moved[:-4] = brain("T1w")[4:]
    for seen, given_ in ((first, brain("FLAIR")), (second, moved)):
        assert np.corrcoef(seen[inside], given_[inside])[0, 1] > 0.99
    mask = np.asarray(nib.load(tmp_path / "out" / "map_mask.nii.gz").dataobj) > 0
    assert mask.any()
    assert np.array_equal(whole(data["labels"]) > 0, mask & inside)


@pytest.mark.parametrize("fault", ["missing", "damaged", "4-D", "empty"])
def test_a_further_scan_that_cannot_be_used_is_left_out_with_a_warning(
    given: Callable[..., Any], tmp_path: Path, fault: str
) -> None:
    scan = tmp_path / "sub-1_T1w.nii.gz"
    if fault == "missing":
        scan.unlink()
    elif fault == "damaged":
        scan.write_bytes(scan.read_bytes()[:9000])
    else:
        data = np.zeros((9, 9, 9) if fault == "empty" else (9, 9, 9, 4), np.int16)
        nib.Nifti1Image(data, np.eye(4)).to_filename(scan)
    found = given("FLAIR", "T1w").sidecar
    warnings = [text for text in found["warnings"] if "left out" in text]
    assert len(warnings) == 1
    assert warnings[0].startswith("sub-1_T1w.nii.gz is left out: ")
    assert "\n" not in warnings[0]
    flair, t1w = found["contrasts"]
    assert flair["weight"] == 1.0
    assert t1w["left_out"]
    assert t1w["weight"] is t1w["findings"] is t1w["volume_ml"] is t1w["registration"] is None
    assert [c["verdict"] for c in found["qc"]["checks"] if c["name"] == "contrasts"] == ["warn"]
    with pytest.raises(QualityError, match="left out"):
        given("FLAIR", "T1w", strict=True)


def test_a_further_scan_unlike_the_training_scans_is_left_out(
    given: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(model: object, x: object, mask: object, contrast: str) -> Distance:
        return Distance(2.0 if contrast == "T1w" else 0.5, 1.0)

    monkeypatch.setattr(out_of_distribution, "measure", measured)
    flair, t1w, t2w = given("FLAIR", "T1w", "T2w").sidecar["contrasts"]
    assert (flair["weight"], t2w["weight"]) == (0.5, 0.5)
    assert (t1w["weight"], t1w["left_out"]) == (None, "is unlike the training scans of the model")
    with pytest.raises(QualityError, match="left out"):
        given("FLAIR", "T1w", strict=True)


def test_the_first_scan_must_be_usable(given: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "sub-1_FLAIR.nii.gz").unlink()
    with pytest.raises(InputError, match="sub-1_FLAIR"):
        given("FLAIR", "T1w")
    assert not files(tmp_path)


def test_the_same_scan_twice_is_refused(given: Callable[..., Any], tmp_path: Path) -> None:
    scan = tmp_path / "sub-1_FLAIR.nii.gz"
    shutil.copy(scan, tmp_path / "sub-1_T1w.nii.gz")
    with pytest.raises(InputError, match="is the same scan as sub-1_FLAIR"):
        given("FLAIR", "T1w")
    (tmp_path / "sub-1_T1w.nii.gz").write_bytes(gzip.compress(gzip.decompress(scan.read_bytes()), 1))
    with pytest.raises(InputError, match="has the same voxels as sub-1_FLAIR"):
        given("FLAIR", "T1w")
    with pytest.raises(InputError, match="is the same scan"):
        given("FLAIR", "FLAIR")
    assert not files(tmp_path)


def test_two_scans_of_one_contrast_are_refused(given: Callable[..., Any], tmp_path: Path) -> None:
    phantoms.save(tmp_path / "sub-1_acq-2_FLAIR.nii.gz", brain("FLAIR", seed=1), GRID_AFFINE)
    with pytest.raises(InputError, match="is FLAIR, as is sub-1_FLAIR"):
        given("FLAIR", "acq-2_FLAIR")
    phantoms.save(tmp_path / "sub-1_other.nii.gz", brain("FLAIR", seed=2), GRID_AFFINE)  # seen by its tissues alone
    with pytest.raises(InputError, match="is FLAIR, as is sub-1_FLAIR"):
        given("FLAIR", "other")
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("alignment", "words"),
    [
        (replace(SAME, similarity=0.50, mirrored=0.51), "does not show the same brain as sub-1_FLAIR.nii.gz"),
        (replace(SAME, mask_overlap=0.6), "does not show the same brain as sub-1_FLAIR.nii.gz"),
        (replace(SAME, similarity=0.2, mirrored=0.4), "looks like the mirror image of sub-1_FLAIR.nii.gz"),
    ],
)
def test_another_patient_and_a_mirrored_scan_are_refused(
    given: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alignment: Alignment, words: str
) -> None:
    monkeypatch.setattr(same_patient, "align", lambda *_: alignment)
    with pytest.raises(InputError, match=words) as caught:
        given("FLAIR", "T1w")
    assert str(caught.value).startswith(str(tmp_path / "sub-1_T1w.nii.gz"))
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": "conformal"}, "needs healthy subjects with the same contrasts"),
        ({"threshold": "fdr:0.1"}, "needs healthy subjects with the same contrasts"),
        ({"stability": 2}, "--stability"),
        ({"save": ("uncertainty",)}, "--save uncertainty"),
    ],
)
def test_options_that_do_not_apply_to_several_contrasts(
    given: Callable[..., Any], options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        given("FLAIR", "T1w", **options)


def test_a_value_is_one_of_the_joined_rarity_whatever_the_score_of_the_first_scan(given: Callable[..., Any]) -> None:
    found = given("FLAIR", "T1w", threshold="1.5").sidecar  # `absolute` is at most 1
    assert found["threshold"]["value"] == 1.5
    assert found["requested"]["threshold"] == "1.5"
    assert found["requested"]["further"] == ["sub-1_T1w.nii.gz"]


def test_the_columns_of_a_table_give_the_contrasts_and_are_checked_against_the_images(
    given: Callable[..., Any], tmp_path: Path
) -> None:
    for name in ("FLAIR", "T1w"):
        (tmp_path / f"sub-1_{name}.nii.gz").rename(tmp_path / f"sub-1_{'one' if name == 'FLAIR' else 'other'}.nii.gz")
    right = given("one", "other", columns=("FLAIR", "T1w")).sidecar
    assert right["contrast"] == {"value": "FLAIR", "source": "table"}
    assert [one["contrast"] for one in right["contrasts"]] == ["FLAIR", "T1w"]
    swapped = given("one", "other", columns=("T1w", "FLAIR")).sidecar
    check = next(one for one in swapped["qc"]["checks"] if one["name"] == "contrast")
    assert (check["verdict"], check["text"]) == ("fail", "the table says T1w, the image looks like FLAIR")
    assert swapped["contrasts"][1]["left_out"] == "quality control failed"


def test_a_further_scan_is_never_overwritten(given: Callable[..., Any], tmp_path: Path) -> None:
    scan = tmp_path / "sub-1_T1w.nii.gz"
    before = scan.read_bytes()
    paths = [tmp_path / "sub-1_FLAIR.nii.gz", scan]
    with pytest.raises(UsageError, match="is a scan of --with"):
        uadcli.detect(paths, scan, options=DetectOptions(overwrite=True))
    with pytest.raises(OutputError, match="already exists"):
        uadcli.detect(paths, tmp_path / "sub-1_T2w.nii.gz")
    assert scan.read_bytes() == before


def test_labels_choose_the_threshold_of_the_joined_map(given: Callable[..., Any], tmp_path: Path) -> None:
    ball = phantoms.ball(Volume(brain("FLAIR"), GRID_AFFINE), LESION, 14.0)
    labels = phantoms.save(tmp_path / "lesion.nii.gz", ball, GRID_AFFINE)
    found = given("FLAIR", "T1w", threshold="best-dice", labels=labels).sidecar
    assert found["threshold"]["kind"] == "best-dice"
    assert found["contrasts"][0]["threshold"]["kind"] == "rate"  # the contrasts by themselves as always
    assert sum("lesion labels" in text for text in found["warnings"]) == 1


def test_labels_choose_the_threshold_of_the_map_that_is_written(
    given: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the detail of the first scan's own grid: here noise, which the model's grid does not have."""

    def noisy(subject: Subject, name: str, *_: Any) -> np.ndarray:
        noise = np.random.default_rng(0).uniform(0.2, 1, subject.mask.shape)
        return (subject.score(name) * noise).astype(np.float32)

    monkeypatch.setattr(own_grid, "own_map", noisy)
    ball = phantoms.ball(Volume(brain("FLAIR"), GRID_AFFINE), LESION, 14.0)
    labels = phantoms.save(tmp_path / "lesion.nii.gz", ball, GRID_AFFINE)
    found = given("FLAIR", "T1w", threshold="best-dice", labels=labels)
    best, _ = best_dice(np.asarray(found.image.dataobj, dtype=np.float32), ball)
    assert f"(Dice {best:.3f})" in found.sidecar["threshold"]["rule"]


@pytest.mark.slow
def test_a_head_that_moved_between_the_scans_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With everything as in use, on other grids: the joined map of the same voxels, seen from a turned head."""
    from scipy import ndimage

    monkeypatch.setattr(artefacts, "measure", lambda *_: Artefacts())
    moved = phantoms.rotation((6, -4, 9))
    moved[:3, 3] = [12, -20, 30]
    varied = 1 + ndimage.gaussian_filter(np.random.default_rng(4).normal(size=(96, 96, 80)), 2) * 2.5
    flair = phantoms.save(tmp_path / "sub-1_FLAIR.nii.gz", brain("FLAIR", whole=True) * varied, GRID_AFFINE)
    t1w = (brain("T1w", whole=True) * varied)[2:, 3:, 1:]
    corner = np.eye(4)
    corner[:3, 3] = [2, 3, 1]
    other = phantoms.save(tmp_path / "sub-1_T1w.nii.gz", t1w, moved @ GRID_AFFINE @ corner)
    options = DetectOptions(weights=str(lab(tmp_path / "lab")), device="cpu", threads=1, save=("transform",))
    config = DetectConfig(preprocess=PreprocessConfig(strip="none"))
    found = uadcli.detect([flair, other], tmp_path / "map.nii.gz", config=config, options=options)
    place = found.sidecar["contrasts"][1]
    assert place["left_out"] is None, found.sidecar["warnings"]
    brains = np.argwhere(brain("FLAIR", whole=True) > 0)[::500] @ GRID_AFFINE[:3, :3].T + GRID_AFFINE[:3, 3]
    expected, seen = (brains @ m[:3, :3].T + m[:3, 3] for m in (moved, np.array(place["registration"]["matrix"])))
    assert np.linalg.norm(expected - seen, axis=1).max() < 2.0
    assert place["registration"]["mask_overlap"] > 0.95
    assert found.image.shape == (96, 96, 80)
    assert np.allclose(found.image.affine, GRID_AFFINE)
