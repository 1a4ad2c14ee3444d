"""`evaluate` on files: what it reads, what it refuses, what it writes."""

from __future__ import annotations

import csv
import json
import os

import nibabel as nib
import numpy as np
import phantoms
import pytest

import uadcli
from uadcli.console import Reporter
from uadcli.errors import InputError, OutputError, UsageError
from uadcli.evaluation.evaluate import FILES, evaluate
from uadcli.evaluation.options import EvaluateOptions
from uadcli.scoring import metrics

AFFINE = np.array([[-2.0, 0, 0, 40], [0, 2.0, 0, -30], [0, 0, 3.0, -20], [0, 0, 0, 1]])
SHAPE = (20, 22, 18)
FEW = EvaluateOptions(threshold=0.6, resamples=50)


def volumes(seed=0, lesion=True):
    rng = np.random.default_rng(seed)
    truth = np.zeros(SHAPE, bool)
    if lesion:
        truth[4:9, 4:9, 4:9] = True
    return (rng.random(SHAPE) * 0.7 + 0.4 * truth).astype(np.float32), truth


def study(root, names=("sub-1", "sub-2", "sub-3"), healthy=("sub-8", "sub-9"), method="maps", shift=0.0):
    """Folders of maps and truths; the truth of a healthy scan is empty."""
    for folder in (root / method, root / "truth"):
        folder.mkdir(exist_ok=True)
    for i, name in enumerate((*names, *healthy)):
        scores, truth = volumes(i, name in names)
        scores = scores + np.float32(shift) * truth
        phantoms.save(root / method / f"{name}_FLAIR_desc-anomaly_map.nii.gz", scores, AFFINE, np.float32)
        phantoms.save(root / "truth" / f"{name}_label-lesion_mask.nii.gz", truth, AFFINE, np.uint8)
    return root / method, root / "truth"


def pair(root, scores, truth, affine=AFFINE, truth_affine=AFFINE):
    phantoms.save(root / "map.nii.gz", scores, affine, np.float32)
    phantoms.save(root / "truth.nii.gz", truth, truth_affine, np.float32)
    return root / "map.nii.gz", root / "truth.nii.gz"


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def value(content, metric, method=None):
    return next(r for r in content["summary"] if r["metric"] == metric and method in (None, r["method"]))["value"]


def test_folders_give_five_files_with_the_right_figures(tmp_path):
    maps, truth = study(tmp_path)
    result = evaluate(maps, truth, tmp_path / "out", options=FEW)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(FILES)
    content = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert content == json.loads(json.dumps(result.content))
    cases = [volumes(i) for i in range(3)]
    assert value(content, "auprc") == pytest.approx(np.mean([metrics.average_precision(*c) for c in cases]))
    assert value(content, "dice") == pytest.approx(np.mean([metrics.dice(s > 0.6, t) for s, t in cases]))
    false = [(volumes(i, lesion=False)[0] > 0.6).sum() * 0.012 for i in (3, 4)]
    assert value(content, "healthy_fp_ml") == pytest.approx(np.mean(false))
    table = rows(tmp_path / "out" / "scans.tsv")
    assert [r["group"] for r in table] == ["lesion"] * 3 + ["healthy"] * 2
    assert [r["subject"] for r in table] == ["sub-1", "sub-2", "sub-3", "sub-8", "sub-9"]
    assert (table[3]["dice"], table[3]["auprc"], table[0]["healthy_fp_ml"]) == ("n/a",) * 3
    for name in FILES:
        assert "esearch use only" in (tmp_path / "out" / name).read_text().replace("_", " "), name


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    maps, truth = study(tmp_path)
    for out in ("a", "b"):
        evaluate(maps, truth, tmp_path / out, options=FEW)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_threshold_and_the_smallest_component_come_from_the_sidecar(tmp_path):
    maps, truth = study(tmp_path, healthy=())
    for i, path in enumerate(sorted(maps.glob("*.nii.gz"))[:2]):
        sidecar = {"threshold": {"value": 0.5 + 0.2 * i}, "settings": {"scoring": {"min_volume_mm3": 30.0}}}
        path.with_name(path.name.replace(".nii.gz", ".json")).write_text(json.dumps(sidecar))
    reporter = Reporter(silent=True)
    content = evaluate(maps, truth, options=EvaluateOptions(resamples=10), reporter=reporter).content
    assert [s["threshold"] for s in content["scans"]] == [0.5, 0.7, None]
    assert [s["dice"] is None for s in content["scans"]] == [False, False, True]
    assert [s["min_volume_mm3"] for s in content["scans"]] == [30.0, 30.0, 0.0]
    assert any("no threshold (give --threshold)" in text and "maps sub-3_FLAIR" in text for text in reporter.warnings)
    given = evaluate(maps, truth, options=EvaluateOptions(threshold=0.9, min_volume_mm3=1.0, resamples=10)).content
    assert {(s["threshold"], s["min_volume_mm3"]) for s in given["scans"]} == {(0.9, 1.0)}


def test_findings_extend_as_the_sidecar_says(tmp_path):
    scores = np.zeros((16, 16, 16), np.float32)
    scores[2:6, 2:6, 2:6], scores[6:9, 2:6, 2:6] = 0.9, 0.4
    scan, truth = pair(tmp_path, scores, scores > 0.3)
    for extent, dice in ((0.3, 1.0), (None, pytest.approx(2 * 64 / (64 + 112)))):
        (tmp_path / "map.json").write_text(json.dumps({"threshold": {"value": 0.5, "extent": extent}}))
        found = evaluate(scan, truth).content["scans"][0]
        assert (found["dice"], found["extent"]) == (dice, extent)


def test_the_mask_next_to_a_map_is_what_was_marked(tmp_path):
    """It was decided on the model's grid: here it holds a finding whose peak thick slices have lowered in the map."""
    scores = np.zeros((16, 16, 16), np.float32)
    scores[2:6, 2:6, 2:6], scores[9:12, 9:12, 9:12] = 0.9, 0.45
    scan, truth = pair(tmp_path, scores, scores > 0)
    content = {"threshold": {"value": 0.5}, "outputs": {"map": scan.name, "mask": "map_mask.nii.gz"}}
    (tmp_path / "map.json").write_text(json.dumps(content))
    reporter = Reporter(silent=True)
    below = evaluate(scan, truth, reporter=reporter).content["scans"][0]
    assert any("is marked anew: " in text for text in reporter.warnings)
    assert (below["lesions_found"], below["recall"] < 1) == (1, True)
    (tmp_path / "map_mask.nii.gz").write_bytes(truth.read_bytes())
    found = evaluate(scan, truth).content["scans"][0]
    assert (found["dice"], found["lesions_found"], found["threshold"]) == (1.0, 2, 0.5)
    for given in ({"threshold": 0.5}, {"min_volume_mm3": 1.0}):
        assert evaluate(scan, truth, options=EvaluateOptions(**given)).content["scans"][0]["lesions_found"] == 1
    content["requested"] = {"threshold": "best-dice"}
    (tmp_path / "map.json").write_text(json.dumps(content))
    assert evaluate(scan, truth).content["scans"][0]["dice"] is None


def test_a_threshold_chosen_by_lesion_labels_is_not_taken_from_the_sidecar(tmp_path):
    scan, truth = pair(tmp_path, *volumes())
    content = {"threshold": {"value": 0.5, "rule": "..."}, "requested": {"threshold": " Best-Dice"}}
    (tmp_path / "map.json").write_text(json.dumps(content))
    reporter = Reporter(silent=True)
    found = evaluate(scan, truth, reporter=reporter).content["scans"][0]
    assert found["threshold"] is None
    assert found["dice"] is None
    assert found["best_dice_oracle"] is not None
    assert any("chosen with lesion labels" in text for text in reporter.warnings)
    assert evaluate(scan, truth, options=EvaluateOptions(threshold=0.5)).content["scans"][0]["dice"] is not None


def test_the_strength_of_a_scan_is_that_of_the_sidecar(tmp_path):
    scan, truth = pair(tmp_path, *volumes())
    (tmp_path / "map.json").write_text('{"threshold": {"value": 0.5}, "anomaly": {"strength": 0.75}}')
    for given in ({}, {"threshold": 0.4}, {"min_volume_mm3": 1.0}, {"threshold": 0.4, "min_volume_mm3": 1.0}):
        assert evaluate(scan, truth, options=EvaluateOptions(**given)).content["scans"][0]["strength"] == 0.75
    (tmp_path / "map.json").unlink()
    assert evaluate(scan, truth).content["scans"][0]["strength"] is None


@pytest.mark.parametrize("text", ["{", '{"threshold": {"value": "high"}}', "[]"])
def test_a_damaged_sidecar_is_an_error(tmp_path, text):
    scan, truth = pair(tmp_path, *volumes())
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(InputError, match=r"map\.json"):
        evaluate(scan, truth)


def test_a_json_of_another_kind_is_no_sidecar(tmp_path):
    scan, truth = pair(tmp_path, *volumes())
    for text in ('{"EchoTime": 0.1}', '{"threshold": {"value": null}}'):
        (tmp_path / "map.json").write_text(text)
        assert evaluate(scan, truth).content["scans"][0]["threshold"] is None


def test_two_methods_are_compared(tmp_path):
    first, truth = study(tmp_path)
    second, _ = study(tmp_path, method="better", shift=0.3)
    content = evaluate([first, second], truth, tmp_path / "out", options=FEW).content
    assert content["methods"] == ["maps", "better"]
    found = {c["metric"]: c for c in content["comparisons"]}
    assert found["auprc"]["difference"] < 0
    assert found["auprc"]["scans"] == 3
    assert value(content, "auprc", "better") > value(content, "auprc", "maps")
    assert len(rows(tmp_path / "out" / "comparisons.tsv")) == len(found)


def test_a_table(tmp_path):
    maps, truth = study(tmp_path)
    lines = ["map\ttruth\tgroup"]
    lines += [f"maps/{p.name}\ttruth/{p.name[:5]}_label-lesion_mask.nii.gz\tMS" for p in sorted(maps.iterdir())[:3]]
    lines += [f"maps/{p.name}\tn/a\thealthy" for p in sorted(maps.iterdir())[3:]]
    (tmp_path / "cases.tsv").write_text("\n".join(lines) + "\n")
    by_table = evaluate(tmp_path / "cases.tsv", options=FEW).content
    by_folder = evaluate(maps, truth, options=FEW).content
    for a, b in zip(by_table["summary"], by_folder["summary"], strict=True):
        assert a | {"method": ""} == b | {"method": ""}


def test_axes_that_run_otherwise_are_the_same_grid(tmp_path):
    scores, truth = volumes()
    turned = phantoms.turned(uadcli.imaging.volume.Volume(truth, AFFINE), np.array([[1, -1], [2, 1], [0, -1]]))
    plain = evaluate(*pair(tmp_path, scores, truth), options=FEW).content["scans"][0]
    other = evaluate(*pair(tmp_path, scores, turned.data, AFFINE, turned.affine), options=FEW).content["scans"][0]
    assert plain == other


def test_another_grid_is_an_error_or_resampled_when_asked(tmp_path):
    scores, truth = volumes()
    fine = np.repeat(np.repeat(np.repeat(truth, 2, 0), 2, 1), 2, 2)
    half = AFFINE @ np.diag([0.5, 0.5, 0.5, 1])
    half[:3, 3] = (AFFINE @ [-0.25, -0.25, -0.25, 1])[:3]
    files = pair(tmp_path, scores, fine, AFFINE, half)
    with pytest.raises(InputError, match=r"40x44x36.*20x22x18.*--resample-truth"):
        evaluate(*files, options=FEW)
    options = EvaluateOptions(threshold=0.6, resamples=10, resample_truth=True)
    content = evaluate(*files, options=options).content
    assert content["scans"][0]["dice"] == metrics.dice(scores > 0.6, truth)
    assert any("nearest neighbour" in note for note in content["notes"])


def unoriented(path, truth, sizes=(2.0, 2.0, 3.0)):
    """A truth whose header defines neither sform nor qform, or as Analyze, by the suffix."""
    kind = nib.AnalyzeImage if path.suffix == ".hdr" else nib.Nifti1Image
    image = kind(truth.astype(np.uint8), None)
    image.header.set_zooms(sizes)
    image.to_filename(path)
    return path


@pytest.mark.parametrize("resample", [False, True])
@pytest.mark.parametrize("name", ["truth.hdr", "truth.nii"])
@pytest.mark.parametrize("centred", [False, True])
def test_a_truth_without_orientation_is_compared_by_its_stored_voxels(tmp_path, name, resample, centred):
    """Also if the place that is assumed without an orientation is that of the map, but for its sides."""
    scores, truth = volumes()
    affine = AFFINE.copy()
    if centred:
        affine[0, 0] = 2.0
        affine[:3, 3] = -affine[:3, :3] @ (np.array(SHAPE) - 1) / 2
    phantoms.save(tmp_path / "map.nii.gz", scores, affine, np.float32)
    path = unoriented(tmp_path / name, truth)
    brain = np.zeros(SHAPE, bool)
    brain[2:12] = True
    mask = unoriented(tmp_path / "brain.nii", brain)
    options = EvaluateOptions(threshold=0.6, resamples=10, resample_truth=resample, masks=mask)
    content = evaluate(tmp_path / "map.nii.gz", path, options=options).content
    assert content["scans"][0]["dice"] == metrics.dice(scores[brain] > 0.6, truth[brain])
    said = [note for note in content["notes"] if name in note]
    assert [note for note in said if note.endswith(": left and right are unknown")]  # no option of another command
    assert [note for note in said if "stored voxels" in note]
    assert not [note for note in said if "resampled" in note]


@pytest.mark.parametrize("resample", [False, True])
@pytest.mark.parametrize("change", ["shape", "spacing"])
def test_a_truth_without_orientation_on_another_grid_is_refused(tmp_path, resample, change):
    scores, truth = volumes()
    phantoms.save(tmp_path / "map.nii.gz", scores, AFFINE, np.float32)
    other = (truth[:-1], (2.0, 2.0, 3.0)) if change == "shape" else (truth, (2.0, 2.0, 2.0))
    path = unoriented(tmp_path / "truth.hdr", *other)
    options = EvaluateOptions(threshold=0.6, resamples=10, resample_truth=resample)
    with pytest.raises(InputError, match="does not define left and right") as refused:
        evaluate(tmp_path / "map.nii.gz", path, options=options)
    assert "--resample-truth" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("resample", [False, True])
def test_a_map_without_orientation_is_compared_by_its_stored_voxels(tmp_path, resample):
    """The map of an Analyze scan, and a truth as NIfTI with the same voxels."""
    scores, truth = volumes()
    image = nib.Nifti1Image(scores, None)
    image.header.set_zooms((2.0, 2.0, 3.0))
    image.to_filename(tmp_path / "map.nii")
    path = phantoms.save(tmp_path / "truth.nii.gz", truth, np.diag([-1, 1, 1, 1]) @ AFFINE, np.uint8)
    options = EvaluateOptions(threshold=0.6, resamples=10, resample_truth=resample)
    content = evaluate(tmp_path / "map.nii", path, options=options).content
    assert content["scans"][0]["dice"] == metrics.dice(scores > 0.6, truth)
    assert [note for note in content["notes"] if "stored voxels" in note and "truth.nii.gz" in note]


def test_warnings_about_a_truth_are_notes_once(tmp_path):
    scores, truth = volumes()
    scan, _ = pair(tmp_path, scores, truth)
    values = truth.astype(np.float32)
    values[0, 0, 0] = np.nan
    path = phantoms.save(tmp_path / "truth.nii.gz", values, AFFINE, np.float32)
    lines = [f"{method}\t{scan}\t{path}\n" for method in ("one", "two")]
    (tmp_path / "t.tsv").write_text("method\tmap\ttruth\n" + "".join(lines))
    notes = evaluate(tmp_path / "t.tsv", options=FEW).content["notes"]
    assert [note for note in notes if "not finite" in note] == [
        "truth.nii.gz: 1 voxels were not finite and were set to 0"
    ]


def test_a_lesion_that_resampling_loses_is_an_error(tmp_path):
    truth = np.zeros((80, 88, 72), bool)
    truth[17, 17, 17] = True
    quarter = AFFINE @ np.diag([0.25, 0.25, 0.25, 1])
    files = pair(tmp_path, volumes()[0], truth, AFFINE, quarter)
    with pytest.raises(InputError, match="no voxel of it is left"):
        evaluate(*files, options=EvaluateOptions(threshold=0.6, resample_truth=True))


def test_grids_that_differ_in_place_alone_are_told_apart(tmp_path):
    scores, truth = volumes()
    moved = AFFINE.copy()
    moved[0, 3] += 1
    with pytest.raises(InputError, match=r"around \(22\.0.*around \(21\.0"):
        evaluate(*pair(tmp_path, scores, truth, AFFINE, moved), options=FEW)


def test_an_empty_mask_is_an_error(tmp_path):
    scan, truth = pair(tmp_path, *volumes())
    phantoms.save(tmp_path / "brain.nii.gz", np.zeros(SHAPE), AFFINE, np.uint8)
    with pytest.raises(InputError, match="empty mask"):
        evaluate(scan, truth, options=EvaluateOptions(masks=tmp_path / "brain.nii.gz"))


def test_only_the_brain_counts_with_masks(tmp_path):
    maps, truth = study(tmp_path, names=("sub-1",), healthy=())
    brain = np.zeros(SHAPE, bool)
    brain[2:8, 2:18, 2:16] = True
    (tmp_path / "brains").mkdir()
    phantoms.save(tmp_path / "brains" / "sub-1_desc-brain_mask.nii.gz", brain, AFFINE, np.uint8)
    options = EvaluateOptions(threshold=0.6, resamples=10, masks=tmp_path / "brains")
    content = evaluate(maps, truth, options=options).content
    scores, lesion = volumes()
    assert content["scans"][0]["auprc"] == pytest.approx(metrics.average_precision(scores[brain], lesion[brain]))
    assert any("outside the mask" in note for note in content["notes"])


def test_a_mask_without_any_lesion_does_not_make_a_scan_healthy(tmp_path):
    maps, truth = study(tmp_path, names=("sub-1",), healthy=())
    brain = np.zeros(SHAPE, bool)
    brain[12:] = True
    phantoms.save(tmp_path / "brain.nii.gz", brain, AFFINE, np.uint8)
    (tmp_path / "t.tsv").write_text(
        f"map\ttruth\tmask\n{next(maps.iterdir())}\t{next(truth.iterdir())}\t{tmp_path}/brain.nii.gz\n"
    )
    with pytest.raises(InputError, match="no lesion voxel is inside"):
        evaluate(tmp_path / "t.tsv", options=FEW)


def test_a_healthy_scan_with_lesions_is_an_error(tmp_path):
    scan, truth = pair(tmp_path, *volumes())
    (tmp_path / "t.tsv").write_text(f"map\ttruth\tgroup\n{scan}\t{truth}\thealthy\n")
    with pytest.raises(InputError, match="listed as healthy"):
        evaluate(tmp_path / "t.tsv")


def test_labels_are_lesions_and_soft_ones_from_one_half(tmp_path):
    scores, truth = volumes()
    labels = truth * np.random.default_rng(0).integers(1, 5, SHAPE)
    expected = evaluate(*pair(tmp_path, scores, truth), options=FEW).content["scans"]
    assert evaluate(*pair(tmp_path, scores, labels), options=FEW).content["scans"] == expected
    soft = np.where(truth, 0.8, 0.3).astype(np.float32)
    assert evaluate(*pair(tmp_path, scores, soft), options=FEW).content["scans"] == expected
    with pytest.raises(InputError, match=r"between 0 and 0\.5"):
        evaluate(*pair(tmp_path, scores, truth * 0.4), options=FEW)


def test_a_map_where_nothing_was_found_is_a_map(tmp_path):
    content = evaluate(*pair(tmp_path, np.zeros(SHAPE, np.float32), volumes()[1]), options=FEW).content
    scan = content["scans"][0]
    assert (scan["dice"], scan["recall"], scan["lesions_found"]) == (0, 0, 0)
    assert scan["precision"] is None
    assert scan["auroc"] == pytest.approx(0.5)


def test_voxels_that_are_not_finite_are_told(tmp_path):
    scores, truth = volumes()
    scores[0, 0, 0] = np.nan
    reporter = Reporter(silent=True)
    content = evaluate(*pair(tmp_path, scores, truth), options=FEW, reporter=reporter).content
    assert any("not finite" in note for note in content["notes"])
    assert any("not finite" in text for text in reporter.warnings)


@pytest.mark.parametrize(
    ("paths", "truth", "part"),
    [
        (["a"], None, "truth is missing"),
        (["a", "b", "c"], None, "--truth"),
        ([], "t", "no maps"),
        (["cases.tsv"], "t", "table already names ground truth"),
    ],
)
def test_ambiguous_paths_are_an_error(paths, truth, part):
    with pytest.raises(UsageError, match=part):
        evaluate(paths, truth)


@pytest.mark.parametrize(
    "options", [{"threshold": float("nan")}, {"resamples": 0}, {"unlabelled": "maybe"}, {"min_volume_mm3": -1.0}]
)
def test_bad_options_are_an_error(tmp_path, options):
    with pytest.raises(UsageError):
        evaluate(*pair(tmp_path, *volumes()), options=EvaluateOptions(**options))


def test_results_are_not_replaced_unless_asked(tmp_path):
    files = pair(tmp_path, *volumes())
    evaluate(*files, tmp_path / "out", options=FEW)
    before = (tmp_path / "out" / "scans.tsv").read_bytes()
    with pytest.raises(OutputError, match="--overwrite"):
        evaluate(*files, tmp_path / "out", options=EvaluateOptions(threshold=0.1))
    assert (tmp_path / "out" / "scans.tsv").read_bytes() == before
    evaluate(*files, tmp_path / "out", options=EvaluateOptions(threshold=0.1, overwrite=True))
    assert (tmp_path / "out" / "scans.tsv").read_bytes() != before
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(FILES)


def test_an_output_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="out"):
        evaluate(*pair(tmp_path, *volumes()), tmp_path / "out", options=FEW)


def test_a_damaged_map_stops_with_its_name_and_writes_nothing(tmp_path):
    maps, truth = study(tmp_path)
    broken = sorted(maps.iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:200])
    with pytest.raises(InputError, match=broken.name):
        evaluate(maps, truth, tmp_path / "out", options=FEW)
    assert list((tmp_path / "out").iterdir()) == []


def test_names_with_markup_stay_text(tmp_path):
    name = "sub-1_<img src=x onerror=alert(1)>&\"'"
    for folder, end, data in (("maps", "_map", volumes()[0]), ("truth", "_mask", volumes()[1])):
        (tmp_path / folder).mkdir()
        nib.Nifti1Image(data.astype(np.float32), AFFINE).to_filename(tmp_path / folder / f"{name}{end}.nii.gz")
    evaluate(tmp_path / "maps", tmp_path / "truth", tmp_path / "out", options=FEW)
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;&amp;&#34;&#39;" in page
    assert rows(tmp_path / "out" / "scans.tsv")[0]["scan"] == name


def test_names_that_are_not_unicode_keep_their_bytes(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    for folder, data in (("maps", volumes()[0]), ("truth", volumes()[1])):
        (tmp_path / folder).mkdir()
        nib.Nifti1Image(data.astype(np.float32), AFFINE).to_filename(tmp_path / folder / f"{name}.nii.gz")
    content = evaluate(tmp_path / "maps", tmp_path / "truth", tmp_path / "out", options=FEW).content
    assert content["scans"][0]["scan"] == "caf\\xe9"
    assert rows(tmp_path / "out" / "scans.tsv")[0]["map"] == "caf\\xe9.nii.gz"
    assert "caf\\xe9" in (tmp_path / "out" / "evaluation.html").read_text()


def test_it_is_a_public_function():
    assert uadcli.evaluate is evaluate
