"""Which truth belongs to which map."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uadcli.config import COSTLY
from uadcli.data import names as file_names
from uadcli.data.matching import map_files, masks_of
from uadcli.detection.options import DetectOptions
from uadcli.errors import RESEARCH_USE, InputError, UsageError
from uadcli.evaluation.cases import Case, from_folders


def touch(root, *names):
    """Empty files: matching looks at names alone."""
    for name in names:
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path(root)


def pairs(maps, truth, root, **more):
    """Names of matched files, relative to their folders."""
    cases, _ = from_folders([touch(root / "maps", *maps)], touch(root / "truth", *truth), **more)
    return {
        c.map.relative_to(root / "maps").as_posix(): c.truth and c.truth.relative_to(root / "truth").as_posix()
        for c in cases
    }


@pytest.mark.parametrize(
    ("map_name", "truth_name"),
    [
        ("sub-01_FLAIR_desc-anomaly_map.nii.gz", "sub-01/anat/sub-01_label-lesion_mask.nii.gz"),
        ("sub-01_ses-2_T1w_desc-anomaly_map.nii.gz", "sub-01_ses-2_space-orig_dseg.nii"),
        ("sub-01/map.nii.gz", "sub-01/sub-01_label-lesion_mask.nii.gz"),
        ("case7_map.nii.gz", "case7_seg.nii.gz"),
        ("case7.nii.gz", "case7.nii.gz"),
        ("case7/map.nii.gz", "case7/truth.nii.gz"),
        ("case-7_map.nii.gz", "case-7_seg.nii.gz"),
        ("case-7/map.nii.gz", "case-7/seg.nii.gz"),
        ("sub-01/ses-2/anat/map.nii.gz", "sub-01_ses-2_dseg.nii.gz"),
        ("UPENN-GBM-00001_11_FLAIR_map.nii.gz", "UPENN-GBM-00001_11_seg.nii.gz"),
        ("BraTS2021_00000_t2_desc-anomaly_map.nii.gz", "BraTS2021_00000/BraTS2021_00000_seg.nii.gz"),
        ("ärztin 1_map.nii.gz", "ärztin 1_lesion.nii.gz"),
    ],
)
def test_names_that_belong_together(tmp_path, map_name, truth_name):
    other = ["case8.nii.gz"] if truth_name == map_name else ["sub-02_label-lesion_mask.nii.gz", "case8_seg.nii.gz"]
    assert pairs([map_name], [truth_name, *other], tmp_path) == {map_name: truth_name}


def test_linked_folders_are_followed_and_each_real_folder_counts_once(tmp_path):
    touch(
        tmp_path, "maps/sub-1_map.nii.gz", "store/sub-2_map.nii.gz", "masks/sub-1_seg.nii.gz", "masks/sub-2_seg.nii.gz"
    )
    links = {"maps/more": "../store", "maps/same": ".", "store/loop": "../maps", "truth": "masks"}
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    cases, _ = from_folders([tmp_path / "maps"], tmp_path / "truth")
    pairs = {case.map.relative_to(tmp_path).as_posix(): case.truth.name for case in cases}
    assert pairs == {"maps/more/sub-2_map.nii.gz": "sub-2_seg.nii.gz", "maps/sub-1_map.nii.gz": "sub-1_seg.nii.gz"}


@pytest.mark.parametrize("name", ["s1.nii.gz", "sub-1_FLAIR_desc-anomaly_map.nii.gz"])
def test_what_detect_writes_beside_a_map_is_no_map(name, tmp_path):
    written = file_names.name(
        Path("scan.nii.gz"), Path(name), DetectOptions(space="both", save=("all", *COSTLY))
    ).paths.values()
    images = [str(path) for path in written if path.name.endswith(".nii.gz")]
    assert len(images) == 7
    truth = f"{name.split('_')[0].removesuffix('.nii.gz')}_label-lesion_mask.nii.gz"
    assert pairs(images, [truth], tmp_path) == {name: truth}


@pytest.mark.parametrize("name", ["s1.nii.gz", "s1_map.nii.gz", "sub-1_FLAIR_desc-anomaly_map.nii.gz"])
def test_what_detect_writes_beside_the_truth_is_no_truth(name: str, tmp_path: Path) -> None:
    files = file_names.name(Path("scan.nii.gz"), Path(name), DetectOptions(space="both", save=("all", *COSTLY))).paths
    truth = f"{name.split('_')[0].removesuffix('.nii.gz')}_label-lesion_mask.nii.gz"
    touch(tmp_path, *map(str, files.values()), truth)
    content = {
        "research_use_only": RESEARCH_USE,
        "tool": {"name": "uad"},
        "outputs": {key: path.name for key, path in files.items()},
    }
    (tmp_path / files["sidecar"]).write_text(json.dumps(content))
    cases, notes = from_folders([tmp_path / name], tmp_path)
    assert [(case.map.name, case.truth) for case in cases] == [(name, tmp_path / truth)]
    assert notes == []
    (tmp_path / truth).unlink()
    with pytest.raises(InputError, match="apart from what uad detect wrote"):
        from_folders([tmp_path / name], tmp_path)
    assert from_folders([tmp_path / name], tmp_path / files["mask"])[0][0].truth == tmp_path / files["mask"]


@pytest.mark.parametrize("name", ["lesion_map.nii.gz", "case7.nii.gz"])
def test_a_map_is_no_truth_of_its_own(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ground truth"):
        from_folders([touch(tmp_path, name)], tmp_path)
    assert pairs([f"sub-1/{name}"], [f"sub-1/{name}"], tmp_path / "apart") == {f"sub-1/{name}": f"sub-1/{name}"}


def test_scans_beside_the_maps_are_no_maps(tmp_path):
    maps = ["sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_T1w_desc-anomaly_map.nii.gz"]
    assert pairs(maps, ["sub-1_mask.nii.gz"], tmp_path) == {maps[1]: "sub-1_mask.nii.gz"}


@pytest.mark.parametrize(
    "pair", [("img", "hdr"), ("img.gz", "hdr.gz"), ("img.gz", "hdr"), ("img", "hdr.gz"), ("IMG", "HDR"), ("img", "HDR")]
)
def test_a_pair_of_files_is_one_image(pair: tuple[str, str], tmp_path: Path) -> None:
    maps, truth = [f"sub-1_map.{end}" for end in pair], [f"sub-1_mask.{end}" for end in pair]
    assert pairs(maps, truth, tmp_path) == {maps[1]: truth[1]}


def test_another_session_or_case_does_not_fit(tmp_path):
    for name, other in (("sub-1_ses-1_map.nii", "sub-1_ses-2_mask.nii"), ("case-1_map.nii", "case-2_seg.nii")):
        with pytest.raises(InputError, match="no ground truth"):
            pairs([name], [other, "x_mask.nii", "sub-9_mask.nii"], tmp_path / name)


def test_scans_are_named_with_what_their_folders_say(tmp_path):
    maps = touch(tmp_path / "m", "sub-1/ses-1/map.nii", "sub-1/ses-2/T1w_map.nii", "case9/map.nii", "a/x.nii_map.nii")
    truth = touch(tmp_path / "t", "sub-1_ses-1_mask.nii", "sub-1_ses-2_mask.nii", "case9_seg.nii", "x.nii_seg.nii")
    cases, _ = from_folders([maps], truth)
    assert {(c.scan, c.subject) for c in cases} == {
        ("sub-1_ses-1", "sub-1"),
        ("sub-1_ses-2_T1w", "sub-1"),
        ("case9", "case9"),
        ("x.nii", "x.nii"),
    }


def test_scans_and_brain_masks_beside_the_truth_are_no_truth(tmp_path):
    truth = ["sub-1_FLAIR.nii.gz", "sub-1_label-lesion_mask.nii.gz", "sub-1_desc-brain_mask.nii.gz"]
    assert pairs(["sub-1_map.nii.gz"], truth, tmp_path) == {"sub-1_map.nii.gz": truth[1]}


def test_contrast_and_session_decide_among_several_truths(tmp_path):
    truth = [f"sub-1_ses-{s}_{c}_label-lesion_mask.nii.gz" for s in (1, 2) for c in ("FLAIR", "T1w")]
    found = pairs(["sub-1_ses-2_T1w_desc-anomaly_map.nii.gz"], truth, tmp_path)
    assert list(found.values()) == ["sub-1_ses-2_T1w_label-lesion_mask.nii.gz"]


def test_an_ambiguous_ground_truth_is_an_error(tmp_path):
    with pytest.raises(InputError, match="two truths"):
        pairs(["sub-1_map.nii"], ["sub-1_ses-1_mask.nii", "sub-1_ses-2_mask.nii"], tmp_path)


def test_a_map_without_truth_is_an_error_unless_said_otherwise(tmp_path):
    maps, truth = ["a_map.nii", "b_map.nii"], ["a_seg.nii"]
    with pytest.raises(InputError, match=r"b_map\.nii.*--unlabelled"):
        pairs(maps, truth, tmp_path)
    assert pairs(maps, truth, tmp_path, unlabelled="healthy") == {"a_map.nii": "a_seg.nii", "b_map.nii": None}
    assert pairs(maps, truth, tmp_path, unlabelled="skip") == {"a_map.nii": "a_seg.nii"}


@pytest.mark.parametrize(("way", "treated"), [("healthy", "counted as healthy"), ("skip", "skipped")])
def test_what_becomes_of_maps_without_truth_is_told(way, treated, tmp_path):
    """Also that they count as healthy: their truth may only have another name."""
    maps = touch(tmp_path / "m", "a_map.nii", "b_map.nii")
    _, notes = from_folders([maps], touch(tmp_path / "t", "a_seg.nii"), unlabelled=way)
    assert notes == [f"m: {treated} without ground truth: b_map.nii"]


def test_a_truth_without_map_is_told(tmp_path):
    _, notes = from_folders([touch(tmp_path / "m", "a_map.nii")], touch(tmp_path / "t", "a_seg.nii", "b_seg.nii"))
    assert notes == ["m: 1 ground-truth file has no map and is ignored (b_seg.nii)"]


def test_several_methods_share_scans_and_subjects(tmp_path):
    first = touch(tmp_path / "a" / "maps", "sub-1_ses-1_FLAIR_desc-anomaly_map.nii.gz")
    second = touch(tmp_path / "b" / "maps", "sub-1_ses-1_FLAIR_desc-siamese_map.nii.gz")
    third = touch(tmp_path / "third", "sub-1_ses-1_FLAIR.nii.gz")
    cases, notes = from_folders([first, second, third], touch(tmp_path / "t", "sub-1_ses-1_mask.nii.gz"))
    assert [c.method for c in cases] == [str(first), str(second), "third"]
    assert {(c.scan, c.subject) for c in cases} == {("sub-1_ses-1_FLAIR", "sub-1")}
    assert notes == []


def test_a_scan_that_one_method_lacks_is_told(tmp_path):
    first, second = touch(tmp_path / "a", "x_map.nii", "y_map.nii"), touch(tmp_path / "b", "x_map.nii")
    _, notes = from_folders([first, second], touch(tmp_path / "t", "x_seg.nii", "y_seg.nii"))
    assert "not every method has every scan; methods are compared on the scans they share (missing: b y)" in notes


def test_brain_masks_are_matched_likewise(tmp_path):
    masks = touch(tmp_path / "brain", "sub-1_desc-brain_mask.nii.gz", "sub-2_desc-brain_mask.nii.gz")
    cases, _ = from_folders(
        [touch(tmp_path / "m", "sub-2_FLAIR_map.nii")], touch(tmp_path / "t", "sub-2_mask.nii"), masks=masks
    )
    assert cases[0].mask == masks / "sub-2_desc-brain_mask.nii.gz"
    with pytest.raises(InputError, match="no mask"):
        from_folders([touch(tmp_path / "n", "sub-3_map.nii")], touch(tmp_path / "u", "sub-3_mask.nii"), masks=masks)


def test_what_is_no_brain_mask_is_not_taken_for_one(tmp_path: Path) -> None:
    name = "sub-1_FLAIR_desc-anomaly_map.nii.gz"
    written = file_names.name(Path("scan.nii.gz"), Path(name), DetectOptions(save=("brain",))).paths
    maps, truth = touch(tmp_path / "maps", *map(str, written.values())), touch(tmp_path / "truth", "sub-1_mask.nii.gz")
    assert from_folders([maps], truth, masks=maps)[0][0].mask == maps / written["brain"]
    (maps / written["brain"]).unlink()
    for place in (maps, truth):
        with pytest.raises(InputError, match="no brain mask"):
            from_folders([maps], truth, masks=place)


def test_one_file_each(tmp_path):
    touch(tmp_path, "some.nii.gz", "other.nii.gz")
    cases, _ = from_folders([tmp_path / "some.nii.gz"], tmp_path / "other.nii.gz")
    assert cases == [Case("some", "some", "some", tmp_path / "some.nii.gz", tmp_path / "other.nii.gz")]


def test_two_maps_of_one_scan_are_an_error(tmp_path):
    with pytest.raises(InputError, match="two maps of"):
        pairs(["a_map.nii", "a_map.nii.gz"], ["a_seg.nii"], tmp_path)


@pytest.mark.parametrize(("maps", "truth"), [([], ["a_seg.nii"]), (["a_map.nii"], [])])
def test_an_empty_folder_is_an_error(tmp_path, maps, truth):
    (tmp_path / "maps").mkdir()
    (tmp_path / "truth").mkdir()
    with pytest.raises(InputError, match="no NIfTI"):
        pairs(maps, truth, tmp_path)


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        from_folders([tmp_path / "no"], touch(tmp_path / "t", "a.nii"))


def test_the_same_maps_twice_are_an_error(tmp_path):
    maps, truth = touch(tmp_path / "m", "a.nii"), touch(tmp_path / "t", "a.nii")
    with pytest.raises(UsageError, match="twice"):
        from_folders([maps, maps], truth)


@pytest.mark.parametrize(
    ("map_name", "truth_name"),
    [
        ("study_SWI002_map.nii.gz", "study_SWI001_mask.nii.gz"),
        ("study_SWI2_map.nii.gz", "study_SWI1_mask.nii.gz"),
        ("study_SWI2_map.nii.gz", "study_mask.nii.gz"),
        ("sub-study_SWI002_map.nii.gz", "sub-study_SWI001_mask.nii.gz"),
        ("sub-1_visit2_T1w_map.nii.gz", "sub-1_visit1_T1w_mask.nii.gz"),
        ("adni_scout_map.nii.gz", "adni_epi_seg.nii.gz"),
        ("P01_T2_FLAIR_map.nii.gz", "P01_T1_mask.nii.gz"),
        ("P01_T2_FLAIR_map.nii.gz", "P01_T2_mask.nii.gz"),
        ("P01/SWI002_map.nii.gz", "P01/SWI001_mask.nii.gz"),
        ("P02/FLAIR/map.nii.gz", "P01/FLAIR/mask.nii.gz"),
        ("P02/anat/map.nii.gz", "P01/anat/mask.nii.gz"),
        ("P02/ses-1/T1w_map.nii.gz", "P01/ses-1/T1w_mask.nii.gz"),
        ("P02/map.nii.gz", "study_P02_mask.nii.gz"),
        ("P01/T1w/map.nii.gz", "P01/FLAIR/mask.nii.gz"),
        ("T1w/P01_map.nii.gz", "FLAIR/P01_mask.nii.gz"),
    ],
)
def test_words_that_differ_are_two_scans(map_name: str, truth_name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no ground truth"):
        pairs([map_name], [truth_name], tmp_path)


@pytest.mark.parametrize(
    ("map_name", "truth_name"),
    [
        ("study_SWI001_map.nii.gz", "study_SWI001_mask.nii.gz"),
        ("SWI001_map.nii.gz", "SWI001_mask.nii.gz"),
        ("FLAIR_map.nii.gz", "FLAIR_mask.nii.gz"),
        ("P01_MPRAGE_map.nii.gz", "P01_t1w_mask.nii.gz"),
        ("P01_T2_FLAIR_map.nii.gz", "P01_FLAIR_mask.nii.gz"),
        ("P01_map.nii.gz", "P01_FLAIR_mask.nii.gz"),
        ("P01_T1_map.nii.gz", "P01_lesion.nii.gz"),
        ("P01/FLAIR/map.nii.gz", "P01/FLAIR/mask.nii.gz"),
        ("P01/FLAIR/map.nii.gz", "P01/mask.nii.gz"),
        ("P01/anat/map.nii.gz", "P01_anat_seg.nii.gz"),
        ("study/P01/map.nii.gz", "P01/seg.nii.gz"),
        ("P01/map.nii.gz", "study/P01/seg.nii.gz"),
        ("study/P01/map.nii.gz", "P01_seg.nii.gz"),
        ("sub-1_T1w_residual_map.nii.gz", "sub-1_T1w_manual_mask.nii.gz"),
    ],
)
def test_words_that_agree_are_one_scan(map_name: str, truth_name: str, tmp_path: Path) -> None:
    assert pairs([map_name], [truth_name], tmp_path) == {map_name: truth_name}


def test_scans_that_only_a_number_tells_apart_are_two_subjects(tmp_path: Path) -> None:
    numbers = ("SWI001", "SWI002")
    maps = touch(tmp_path / "m", *(f"study_{number}_map.nii" for number in numbers))
    cases, _ = from_folders([maps], touch(tmp_path / "t", *(f"study_{number}_mask.nii" for number in numbers)))
    assert [case.subject for case in cases] == ["study_SWI001", "study_SWI002"]
    assert [case.truth and case.truth.name for case in cases] == ["study_SWI001_mask.nii", "study_SWI002_mask.nii"]


@pytest.mark.parametrize(
    "maps",
    [
        ["P01_T1_map.nii", "P01_T2_map.nii", "P01_FLAIR_map.nii", "P01_PD_map.nii"],
        ["FLAIR/P01_map.nii", "T1w/P01_map.nii"],
        ["FLAIR_maps/P01_map.nii", "T1w_maps/P01_map.nii"],
        ["P01_dwi_map.nii", "P01_adc_map.nii"],
        ["P01_b0_map.nii", "P01_b1000_map.nii"],
        ["P01_T1map_map.nii", "P01_T2map_map.nii"],
    ],
)
def test_the_contrasts_of_one_subject_share_a_truth(maps: list[str], tmp_path: Path) -> None:
    assert pairs(maps, ["P01_mask.nii"], tmp_path) == dict.fromkeys(maps, "P01_mask.nii")


@pytest.mark.parametrize(
    "maps",
    [
        ["site1/study_map.nii", "site2/study_map.nii"],
        ["site1/study_T1_map.nii", "site1/study_FLAIR_map.nii", "site2/study_FLAIR_map.nii"],
        ["P01/x/study_map.nii", "P02/x/study_map.nii"],
        ["PD/study_map.nii", "CT/study_map.nii"],
    ],
)
@pytest.mark.parametrize("folder", ["", "site1/"])
def test_maps_that_may_be_of_two_subjects_do_not_share_a_truth(maps: list[str], folder: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"study_mask\.nii: matches .* and .*, which may be two subjects"):
        pairs(maps, [f"{folder}study_mask.nii"], tmp_path)


def test_the_same_name_in_two_folders_is_two_scans_with_a_truth_each(tmp_path: Path) -> None:
    maps, truth = ["a/case1_map.nii", "b/case1_map.nii"], ["a/case1_seg.nii", "b/case1_seg.nii"]
    assert pairs(maps, truth, tmp_path) == dict(zip(maps, truth, strict=True))


def test_the_only_truth_of_a_bids_subject_is_taken_and_its_other_contrast_told(tmp_path: Path) -> None:
    maps = touch(tmp_path / "m", "sub-1_T1w_map.nii", "sub-1_FLAIR_map.nii")
    cases, notes = from_folders([maps], touch(tmp_path / "t", "sub-1_FLAIR_label-lesion_mask.nii"))
    assert {case.truth and case.truth.name for case in cases} == {"sub-1_FLAIR_label-lesion_mask.nii"}
    assert notes == ["m: 1 map is compared with the ground truth of another contrast (sub-1_T1w_map.nii)"]


def test_a_mask_is_not_shared_by_scans_that_may_be_of_two_subjects(tmp_path: Path) -> None:
    root = touch(tmp_path / "scans", "site1/case1_FLAIR.nii", "site2/case1_FLAIR.nii")
    with pytest.raises(InputError, match="two subjects"):
        masks_of(sorted(root.rglob("*.nii")), root, touch(tmp_path / "masks", "case1_mask.nii"))


def test_maps_that_are_being_written_are_not_found(tmp_path: Path) -> None:
    """A detection writes into a hidden folder, which stays if it is killed."""
    for place in (tmp_path / "a_map.nii.gz", tmp_path / ".uad-0123456789abcdef" / "b_map.nii.gz"):
        place.parent.mkdir(exist_ok=True)
        place.touch()
    assert map_files(tmp_path) == [tmp_path / "a_map.nii.gz"]
