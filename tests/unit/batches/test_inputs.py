"""What a batch takes from files, folders, patterns, BIDS roots and lists."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from uadcli.batches import bids, inputs
from uadcli.batches.bids import Selection
from uadcli.errors import InputError, UsageError


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def found(root: Path, *paths: Path, selection: Selection | None = None, listed: list[Path] | None = None) -> dict:
    search = inputs.find(paths, listed or [], selection or Selection(), root / "out")
    return {str(one.scan.relative_to(root)): str(one.folder) for one in search.found}


def test_files_go_flat_and_folders_are_mirrored(tmp_path: Path) -> None:
    make(tmp_path, "a b.nii.gz", "d/x.nii", "d/é/ü/y.mgz", "d/e/readme.txt", "d/.hidden/z.nii", "d/.z.nii")
    assert found(tmp_path, tmp_path / "a b.nii.gz", tmp_path / "d") == {
        "a b.nii.gz": ".",
        "d/x.nii": ".",
        "d/é/ü/y.mgz": "é/ü",
    }


def test_linked_folders_are_followed_and_each_real_folder_counts_once(tmp_path: Path) -> None:
    make(tmp_path, "d/real/x.nii", "store/p1/y.nii", "store/p1/deep/z.nii", "out/w.nii")
    links = {
        "d/a": "real",
        "d/p1": "../store/p1",
        "d/p2": "p1",
        "d/real/loop": "..",
        "d/self": "self",
        "d/out": "../out",
    }
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    (tmp_path / "store/p1/more").symlink_to("..")
    assert found(tmp_path, tmp_path / "d") == {"d/p1/y.nii": "p1", "d/p1/deep/z.nii": "p1/deep", "d/real/x.nii": "real"}
    (tmp_path / "link").symlink_to("d")
    assert list(found(tmp_path, tmp_path / "link")) == ["link/p1/y.nii", "link/p1/deep/z.nii", "link/real/x.nii"]


def test_results_masks_and_the_header_of_a_pair_are_no_scans(tmp_path: Path) -> None:
    make(
        tmp_path, "d/a.nii", "d/a_desc-anomaly_map.nii.gz", "d/a_brain-mask.nii", "d/p.img", "d/p.hdr", "d/q.hdr",
        "d/r.img.gz", "d/r.hdr.gz", "d/s.img.gz", "d/s.hdr", "d/t.img", "d/t.hdr.gz",
        "out/a.nii", "out/deep/b.nii",
    )  # fmt: skip
    search = inputs.find([tmp_path], [], Selection(), tmp_path / "out")
    assert [one.scan.name for one in search.found] == ["a.nii", "p.img", "q.hdr", "r.img.gz", "s.img.gz", "t.img"]
    assert [path.name for path in search.left_out] == ["a_brain-mask.nii", "a_desc-anomaly_map.nii.gz"]


def test_what_uad_wrote_is_left_out_of_folders_and_patterns(tmp_path: Path) -> None:
    written = ["map.nii.gz", "map_brain.nii.gz", "map_recon.nii.gz", "map_space-MNI152NLin2009cAsym.nii.gz"]
    make(tmp_path, "d/x.nii.gz", "d/x_brain.nii.gz", "d/sub-01_brain.nii.gz", *(f"d/{name}" for name in written))
    content = {"research_use_only": "", "tool": {"name": "uad"}, "outputs": {"map": "x.nii.gz", "a": "x_brain.nii.gz"}}
    (tmp_path / "d/x.json").write_text(json.dumps(content))
    for given in (tmp_path / "d", tmp_path / "d/*.nii.gz"):
        search = inputs.find([given], [], Selection(), tmp_path / "out")
        assert [one.scan.name for one in search.found] == ["sub-01_brain.nii.gz"]
        assert [path.name for path in search.left_out] == [*written, "x.nii.gz", "x_brain.nii.gz"]
    named = [tmp_path / "d/x_brain.nii.gz"]  # what is given by name is taken
    assert [one.scan for one in inputs.find(named, [], Selection(), tmp_path / "out").found] == named


def test_patterns_are_mirrored_from_their_fixed_part(tmp_path: Path) -> None:
    make(tmp_path, "d/p1/T1.nii", "d/p2/T1.nii", "d/p2/T2.nii", "d/p2/sub/T1.nii", "out/p3/T1.nii", "odd[1].nii")
    assert found(tmp_path, tmp_path / "d/*/T1.nii") == {"d/p1/T1.nii": "p1", "d/p2/T1.nii": "p2"}
    assert found(tmp_path, tmp_path / "d/p[2]") == {
        "d/p2/T1.nii": "p2", "d/p2/T2.nii": "p2", "d/p2/sub/T1.nii": "p2/sub",
    }  # fmt: skip
    assert set(found(tmp_path, tmp_path / "**/T1.nii")) == {"d/p1/T1.nii", "d/p2/T1.nii", "d/p2/sub/T1.nii"}
    assert found(tmp_path, tmp_path / "odd[1].nii") == {"odd[1].nii": "."}


@pytest.mark.parametrize("name", ["none.nii", "empty", "d/*.nii.gz", "void*"])
def test_an_input_without_scans_is_a_usage_error(tmp_path: Path, name: str) -> None:
    make(tmp_path, "empty/x.txt", "d/x.nii")
    with pytest.raises(UsageError):
        found(tmp_path, tmp_path / name)


def test_a_listed_path_that_does_not_exist_is_a_failed_scan_not_a_usage_error(tmp_path: Path) -> None:
    make(tmp_path, "a.nii")
    assert found(tmp_path, listed=[tmp_path / "gone*.nii", tmp_path / "a.nii"]) == {"gone*.nii": ".", "a.nii": "."}


def test_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = tmp_path / "list.txt"
    lines.write_bytes(b"a b.nii\r\n\n\xc3\xa9.nii\n\xff.nii")
    assert inputs.read_list(str(lines)) == [Path("a b.nii"), Path("é.nii"), Path(os.fsdecode(b"\xff.nii"))]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"two\nlines.nii\0x.nii\0")))
    assert inputs.read_list("-", nul=True) == [Path("two\nlines.nii"), Path("x.nii")]
    lines.write_bytes(b"\n\n")
    with pytest.raises(UsageError, match="empty"):
        inputs.read_list(str(lines))
    with pytest.raises(InputError, match="cannot be read"):
        inputs.read_list(str(tmp_path / "none.txt"))


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lists_of_other_programs(code: str, end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "d/é b.nii", "d/it's.nii", "home/~x.nii", "home/y.nii", "'quoted'.nii", "d/near.nii")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    lines = {
        '"d/é b.nii"': "d/é b.nii",
        "'d/it's.nii'": "d/it's.nii",
        "  d/é b.nii  ": "d/é b.nii",
        "~/y.nii": str(tmp_path / "home/y.nii"),
        "home/~x.nii": "home/~x.nii",
        "'quoted'.nii": "'quoted'.nii",
        '"~/y.nii"': str(tmp_path / "home/y.nii"),
        "near.nii": "d/near.nii",
        '"gone.nii"': '"gone.nii"',
    }
    (tmp_path / "d/list.txt").write_bytes(end.join([*lines, ""]).encode(code))
    assert inputs.read_list("d/list.txt") == [Path(path) for path in lines.values()]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return make(
        tmp_path / "bids", "dataset_description.json", "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_acq-x_FLAIR.nii", "sub-01/anat/sub-01_T1w.json", "sub-01/anat/sub-01_T2starw.nii.gz",
        "sub-01/func/sub-01_task-x_bold.nii.gz", "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_T2w.nii.gz", "derivatives/uad/sub-01/anat/sub-01_T1w.nii.gz",
        "sourcedata/sub-01/anat/sub-01_T1w.nii.gz", "sub-01/anat/._sub-01_T1w.nii.gz",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (Selection(), ["01_T1w", "01_acq-x_FLAIR", "02_ses-a_T1w", "02_ses-b_T2w"]),
        (Selection(contrast="T1w"), ["01_T1w", "02_ses-a_T1w"]),
        (Selection(participants=("sub-01",)), ["01_T1w", "01_acq-x_FLAIR"]),
        (Selection(participants=("01", "02"), sessions=("b",)), ["02_ses-b_T2w"]),
        (Selection(sessions=("ses-a", "b"), contrast="T2w"), ["02_ses-b_T2w"]),
    ],
)
def test_a_bids_root_gives_its_raw_anatomical_scans(dataset: Path, selection: Selection, names: list[str]) -> None:
    search = inputs.find([dataset], [], selection, dataset / "derivatives" / "uad")
    assert search.bids_root
    assert [one.scan.name.removeprefix("sub-").split(".")[0] for one in search.found] == names
    assert all(one.in_bids and str(one.folder) == str(one.scan.parent.relative_to(dataset)) for one in search.found)


@pytest.mark.parametrize(
    ("selection", "part"),
    [
        (Selection(participants=("03",)), "participant 03"),
        (Selection(sessions=("c",)), "session c"),
        (Selection(participants=("01",), contrast="T2w"), "no scan of contrast T2w"),
    ],
)
def test_a_selection_of_nothing_is_a_usage_error(dataset: Path, selection: Selection, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        inputs.find([dataset], [], selection, dataset / "out")


def test_a_selection_needs_a_bids_root(tmp_path: Path) -> None:
    make(tmp_path, "d/a.nii")
    with pytest.raises(UsageError, match="BIDS dataset"):
        found(tmp_path, tmp_path / "d", selection=Selection(participants=("01",)))


def test_results_do_not_go_into_another_dataset(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not made by uad"):
        bids.check_output(dataset)
    ours = tmp_path / "ours"
    ours.mkdir()
    bids.describe(ours)
    bids.check_output(ours)
    content = bids.description()
    assert content["DatasetType"] == "derivative"
    assert "Research use only" in content["GeneratedBy"][0]["Description"]
