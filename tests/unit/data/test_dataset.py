"""A folder of scans: what is found, how it is split, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import phantoms
import pytest
import workloads

from uadcli.config import COSTLY, PreprocessConfig
from uadcli.data import dataset, names
from uadcli.data.dataset import check, find, in_words, is_synthetic, subject_of
from uadcli.detection.options import DetectOptions
from uadcli.errors import InputError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_scans_of_a_bids_tree_and_nothing_else(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_FLAIR.nii.gz",
        "sub-01/anat/sub-01_label-lesion_mask.nii.gz",
        "sub-02/anat/sub-02_T1w.nii",
        "sub-02/anat/sub-02_T1w.json",
        "derivatives/uad/sub-01/anat/sub-01_T1w.nii.gz",
        ".hidden/sub-03_T1w.nii",
        "sub-04_brain.mgz",
    )
    found = find(tmp_path, 0.5)
    assert [(c.subject, c.contrast, c.scan.name) for c in found] == [
        ("sub-01", "FLAIR", "sub-01_FLAIR.nii.gz"),
        ("sub-01", "T1w", "sub-01_T1w.nii.gz"),
        ("sub-02", "T1w", "sub-02_T1w.nii"),
        ("sub-04", "", "sub-04_brain.mgz"),
    ]
    assert len({c.part for c in found if c.subject == "sub-01"}) == 1
    masks = [c.lesions and c.lesions.name for c in found]
    assert masks == ["sub-01_label-lesion_mask.nii.gz"] * 2 + [None] * 2


def test_linked_folders_are_followed_and_each_real_folder_counts_once(tmp_path: Path) -> None:
    touch(tmp_path, "d/sub-02/b_T1w.nii", "store/one/a_T1w.nii", "store/derivatives/c_T1w.nii")
    links = {"d/sub-00": "sub-02", "d/sub-01": "../store/one", "d/derivatives": "../store", "d/sub-02/loop": ".."}
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    assert [(c.subject, c.scan.name) for c in find(tmp_path / "d", None)] == [
        ("sub-01", "a_T1w.nii"),
        ("sub-02", "b_T1w.nii"),
    ]


def test_a_lesion_mask_beside_a_scan_is_that_scans_alone(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "sub-1_ses-1_T1w.nii.gz",
        "sub-1_ses-1_FLAIR.nii.gz",
        "sub-1_ses-2_FLAIR.nii.gz",
        "sub-1_ses-1_FLAIR_label-lesion_mask.nii",
        "sub-1_ses-2_space-MNI_label-lesion_mask.nii.gz",  # in another space than the scan
        "sub-2_T1w.nii.gz",
        "sub-2_label-brain_mask.nii.gz",
        "sub-2_desc-lesionless_mask.nii.gz",
    )
    found = {c.scan.name: c.lesions for c in find(tmp_path, 0.0)}
    assert [name for name, mask in found.items() if mask] == ["sub-1_ses-1_FLAIR.nii.gz"]
    touch(tmp_path, "sub-1_ses-1_label-lesion_mask.nii.gz")  # says less than that of the FLAIR
    found = {c.scan.name: c.lesions and c.lesions.name for c in find(tmp_path, 0.0)}
    assert found["sub-1_ses-1_FLAIR.nii.gz"] == "sub-1_ses-1_FLAIR_label-lesion_mask.nii"
    assert found["sub-1_ses-1_T1w.nii.gz"] == "sub-1_ses-1_label-lesion_mask.nii.gz"
    touch(tmp_path, "sub-1_ses-1_label-lesionB_mask.nii.gz")
    with pytest.raises(InputError, match="several lesion masks"):
        find(tmp_path, 0.0)


def test_what_may_be_a_lesion_mask_is_not_passed_over(tmp_path: Path) -> None:
    names = {
        "sub-1_FLAIR.nii.gz": "sub-1_space-orig_label-lesion_mask.nii.gz",
        "sub-2_T1w.nii.gz": "sub-2_FLAIR_label-lesion_mask.nii.gz",
        "sub-3_T1w.nii.gz": "sub-3_label-L_desc-T1lesion_mask.nii.gz",
        "sub-4_ses-1_T1w.nii.gz": "sub-4_ses-2_label-lesion_dseg.nii.gz",  # of another session
        "sub-5_T1w.nii.gz": "sub-5_label-lesion_mask.nii.gz",  # it is the scan's
        "sub-6_T1w.nii.gz": "sub-6_label-brain_mask.nii.gz",
    }
    touch(tmp_path, *names, *names.values())
    doubtful = {c.subject: dataset.doubtful_mask(c) for c in find(tmp_path, 0.0)}
    assert {subject for subject, mask in doubtful.items() if mask} == {"sub-1", "sub-2", "sub-3"}


def test_the_split_is_by_subject_stable_and_never_empty(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-{i:02d}_{c}.nii.gz" for i in range(20) for c in ("T1w", "FLAIR")))
    one, two = find(tmp_path, 0.2), find(tmp_path, 0.2)
    assert one == two
    validation = {c.subject for c in one if c.part == "val"}
    assert len(validation) == 4
    assert not validation & {c.subject for c in one if c.part == "train"}
    assert {c.part for c in find(tmp_path, 0.0)} == {"train"}
    touch(tmp_path / "two", "a_T1w.nii", "b_T1w.nii")
    assert sorted(c.part for c in find(tmp_path / "two", 0.01)) == ["train", "val"]


def test_participants_tsv_decides(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-{i}_T1w.nii" for i in range(4)))
    (tmp_path / "participants.tsv").write_text("participant_id\tsplit\nsub-0\tval\nsub-1\ttrain\nsub-2\tvalidation\n")
    assert [c.part for c in find(tmp_path, 0.2)] == ["val", "train", "val", "train"]


def test_a_subject_on_both_sides_of_the_split_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, *(f"sub-{i}_T1w.nii" for i in range(3)))
    table = tmp_path / "participants.tsv"
    table.write_text("participant_id\tsplit\nsub-0\tval\nsub-1\ttrain\n0\ttraining\n")
    with pytest.raises(InputError, match="0 is both in val and in train"):
        find(tmp_path, 0.2)
    table.write_text("participant_id\tsplit\n0\tval\n0\tval\n0\t\n")  # sessions; a name may lack its prefix
    assert [c.part for c in find(tmp_path, 0.2)] == ["val", "train", "train"]
    table.write_text("participant_id\tsplit\nsub-0\tval\nsub-1\tTest \n")  # which is never trained on
    assert [c.part for c in find(tmp_path, 0.2)] == ["val", "test", "train"]
    assert {c.part for c in find(tmp_path, None)} == {"train"}


def test_a_scan_that_kills_its_worker_affects_no_other_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "_fault", workloads.die_of_broken)
    touch(tmp_path, "sub-1_T1w.nii", "sub-2_broken_T1w.nii", "sub-3_T1w.nii", "sub-4_odd_T1w.nii")
    faults = dataset.prepare_all(find(tmp_path, 0.2), tmp_path / "cache", PreprocessConfig(), 2)
    assert [case.subject for case in faults] == ["sub-2", "sub-4"]
    died, odd = faults.values()
    assert "was killed" in died
    assert odd == "odd"


@pytest.mark.parametrize(
    ("path", "subject"),
    [("sub-7/ses-1/anat/x.nii", "sub-7"), ("anna/t1.nii", "anna"), ("bert_T1w.nii.gz", "bert_T1w")],
)
def test_subject(path: str, subject: str) -> None:
    assert subject_of(Path(path)) == subject


def test_nothing_to_find_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scan"):
        find(tmp_path, 0.2)
    with pytest.raises(InputError, match="not a folder"):
        find(tmp_path / "none", 0.2)


def test_check_names_broken_files_and_twins_across_the_split(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(3):
        phantoms.save(tmp_path / f"sub-{i}_T1w.nii.gz", 1000 * rng.random((30, 30, 30)), np.diag([4.0, 4, 4, 1]))
    (tmp_path / "sub-3_T1w.nii.gz").write_bytes((tmp_path / "sub-0_T1w.nii.gz").read_bytes())
    (tmp_path / "sub-4_T1w.nii.gz").write_bytes(b"text")
    (tmp_path / "participants.tsv").write_text("participant_id\tsplit\nsub-0\ttrain\nsub-3\tval\n")
    checked = check(find(tmp_path, 0.2))
    problems = {c.case.subject: c.problem for c in checked if c.problem}
    assert set(problems) == {"sub-3", "sub-4"}
    assert "same as sub-0_T1w.nii.gz, in training and validation" in problems["sub-3"]
    text = in_words(checked)
    assert "3 T1w scans in train" in text
    assert "sub-4_T1w.nii.gz: " in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, False), ('{"synthetic": true}', True), ('{"synthetic": false}', False), ("[]", False)],
)
def test_a_synthetic_scan_is_known_by_its_sidecar(content: str | None, expected: bool, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "sub-1_T2w.json").write_text(content)
    assert is_synthetic(tmp_path / "sub-1_T2w.nii.gz") is expected


def test_a_synthetic_scan_with_lesions_is_a_patients(tmp_path: Path) -> None:
    """By its sidecar, whatever its name, and even if its mask is lost."""
    has = {"l": 1.5, "lost": 0.2, "sub-1_T2w": 3.0, "sub-2_T2w": 1.0, "none": 0.0, "healthy": None, "odd": True}
    for name, volume in has.items():
        touch(tmp_path, f"{name}.nii.gz", *([] if name == "lost" else [f"{name}_lesions.nii.gz"]))
        (tmp_path / f"{name}.json").write_text(json.dumps({"synthetic": True, "lesion_volume_ml": volume}))
    touch(tmp_path, "sub-2_label-lesion_mask.nii.gz", "real.nii", "broken.nii", "plain.nii", "plain_lesions.nii")
    (tmp_path / "real.json").write_text(json.dumps({"synthetic": False, "lesion_volume_ml": 1.0}))
    (tmp_path / "broken.json").write_text("{")  # of another program
    (tmp_path / "plain.json").write_text(json.dumps({"synthetic": True, "lesion_volume_ml": 1.0}))
    assert {c.scan.name: c.lesions.name for c in find(tmp_path, None) if c.lesions} == {
        "l.nii.gz": "l_lesions.nii.gz",
        "lost.nii.gz": "lost_lesions.nii.gz",
        "plain.nii": "plain_lesions.nii",
        "sub-1_T2w.nii.gz": "sub-1_T2w_lesions.nii.gz",
        "sub-2_T2w.nii.gz": "sub-2_label-lesion_mask.nii.gz",
    }


def test_a_broken_sidecar_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "sub-1_T2w.json").write_text("{")
    with pytest.raises(InputError, match="JSON"):
        is_synthetic(tmp_path / "sub-1_T2w.nii.gz")


def results(folder: Path, name: str, **more: Any) -> list[str]:
    """Write what `uad detect` leaves in a folder: every image, and the sidecar; returns the images."""
    options = DetectOptions(space="both", save=("all", *COSTLY))
    paths = names.name(Path("scan.nii.gz"), folder / name, options).paths
    touch(folder, *(path.name for path in paths.values()))
    content = {
        "research_use_only": "Research use only.",
        "tool": {"name": "uad"},
        "outputs": {key: path.name for key, path in paths.items()},
    }
    paths["sidecar"].write_text(json.dumps(content | more))
    return [path.name for path in paths.values() if path.name.endswith(".nii.gz")]


@pytest.mark.parametrize("name", ["map.nii.gz", "sub-1_map.nii.gz", "out.nii.gz", "sub-1_FLAIR.nii.gz"])
def test_what_uad_wrote_is_no_scan(name: str, tmp_path: Path) -> None:
    written = results(tmp_path, name)
    touch(tmp_path, "P1_FLAIR.nii.gz")
    said: list[str] = []
    assert [case.scan.name for case in find(tmp_path, None, said.append)] == ["P1_FLAIR.nii.gz"]
    few = [one for one in written if not one.endswith("_mask.nii.gz")]
    assert said == [f"{len(few)} files that uad wrote are left out, the first is {tmp_path / min(few)}"]


def test_results_named_as_maps_are_known_without_their_sidecar(tmp_path: Path) -> None:
    for name in results(tmp_path, "map.nii.gz") + results(tmp_path, "a_FLAIR_map.nii.gz"):
        assert names.is_result(tmp_path / name), name
    for path in tmp_path.glob("*.json"):
        path.unlink()
    touch(tmp_path, "P1_FLAIR.nii.gz")
    assert [case.scan.name for case in find(tmp_path, None)] == ["P1_FLAIR.nii.gz"]


def test_renamed_results_are_known_by_their_sidecar(tmp_path: Path) -> None:
    results(tmp_path, "out.nii.gz")
    for path in sorted(tmp_path.iterdir()):
        path.rename(path.with_name(path.name.replace("out", "P2", 1)))
    touch(tmp_path, "P1_FLAIR.nii.gz")
    assert [case.scan.name for case in find(tmp_path, None)] == ["P1_FLAIR.nii.gz"]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"tool": {"name": "uad"}}', '{"outputs": ["a"]}', "x" * 2000])
def test_a_scan_is_no_result_of_uad(content: str | None, tmp_path: Path) -> None:
    scans = ["MAP01_T1w.nii.gz", "heatmap_patient_T1w.nii.gz", "map_patient_T1w.nii.gz", "roadmap.nii.gz"]
    scans += ["sub-01.nii.gz", "sub-01_brain.nii.gz", "sub-01_recon.nii.gz", "sub-01_T1w_brain.nii.gz"]
    touch(tmp_path, *scans)
    if content is not None:
        (tmp_path / "sub-01.json").write_text(content)
        (tmp_path / "sub-01_brain.json").write_text(content)
    assert sorted(case.scan.name for case in find(tmp_path, None)) == sorted(scans)


def test_a_damaged_sidecar_of_uad_is_told(tmp_path: Path) -> None:
    touch(tmp_path, "P1_FLAIR.nii.gz")
    (tmp_path / "P1_FLAIR.json").write_text('{"research_use_only": "Research use only.", "tool": ')
    with pytest.raises(InputError, match=r"P1_FLAIR\.json: cannot be read as JSON"):
        find(tmp_path, None)


def test_a_scan_beside_a_map_of_the_same_stem_is_found(tmp_path: Path) -> None:
    results(tmp_path, "P1_FLAIR.nii.gz")
    touch(tmp_path, "P1_FLAIR.nii")
    assert [case.scan.name for case in find(tmp_path, None)] == ["P1_FLAIR.nii"]


def test_a_synthetic_brain_is_a_scan(tmp_path: Path) -> None:
    touch(tmp_path, "made.nii.gz")
    content = {"synthetic": True, "research_use_only": "Research use only.", "tool": {"name": "uad"}}
    (tmp_path / "made.json").write_text(json.dumps(content | {"outputs": {"volume": "made.nii.gz"}}))
    assert [case.scan.name for case in find(tmp_path, None)] == ["made.nii.gz"]


@pytest.mark.parametrize("word", ["lesions", "lesion", "labels", "masks", "Lesions"])
def test_a_mask_is_no_scan(word: str, tmp_path: Path) -> None:
    touch(tmp_path, "made.nii.gz", f"made_{word}.nii.gz")
    assert [case.scan.name for case in find(tmp_path, None)] == ["made.nii.gz"]


def test_only_sidecars_of_uad_are_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of thousands of scans with a JSON file each."""
    scans = [f"sub-{number}_T1w.nii.gz" for number in range(20)]
    touch(tmp_path, *scans)
    for name in scans:
        (tmp_path / name.replace(".nii.gz", ".json")).write_text('{"EchoTime": 0.1}')
    monkeypatch.setattr(names.json, "loads", None)
    assert len(find(tmp_path, None)) == len(scans)


def test_a_folder_is_searched_for_masks_once_however_many_scans_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        (tmp_path / f"sub-{number}_T1w.nii.gz").touch()
    (tmp_path / "sub-3_label-lesion_mask.nii.gz").touch()
    searched, real = list[str](), Path.glob

    def noted(folder: Path, pattern: str) -> Any:
        searched.append(pattern)
        return real(folder, pattern)

    monkeypatch.setattr(Path, "glob", noted)
    ill = [case.subject for case in dataset.find(tmp_path, None) if case.lesions]
    assert ill == ["sub-3"]
    assert len(searched) <= 2
