"""`T1.nii` next to `T1.nii.gz`: one content is done once, else each has its own name; what is gone is said."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import stand

from uadcli.batches import batch
from uadcli.batches.options import BatchOptions, Request
from uadcli.console import Reporter
from uadcli.errors import UsageError


def planned(*paths: Path, **more: object) -> tuple[list[dict[str, str]], str]:
    """The lines of a dry run, and what it says."""
    import io

    heard = io.StringIO()
    asked = BatchOptions(workers=0, **more)  # type: ignore[arg-type]
    request = Request(
        paths=paths,
        output=Path(paths[0]).parent / "out",
        config=stand.DetectConfig(),
        options=stand.OPTIONS,
        batch=asked,
    )
    made = batch.make_plan(request, Reporter(stream=heard), download=False)
    return [json.loads(line) for line in made.as_json().splitlines()], heard.getvalue()


def maps(lines: list[dict[str, str]]) -> list[str]:
    return [Path(line["map"]).name.removesuffix("_desc-anomaly_map.nii.gz") for line in lines]


@pytest.mark.parametrize("level", [1, 9])
def test_the_same_content_is_done_once_with_a_note(level: int, tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000
    (tmp_path / "T1.nii").write_bytes(content)
    (tmp_path / "T1.nii.gz").write_bytes(gzip.compress(content, level))
    lines, heard = planned(tmp_path)
    assert maps(lines) == ["T1"]
    assert "T1.nii.gz has the same content as T1.nii, and is left out" in heard


def test_both_halves_of_a_pair_are_one_scan(tmp_path: Path) -> None:
    nib.Nifti1Pair(np.ones((20, 20, 20), np.uint8), np.eye(4)).to_filename(tmp_path / "T1.img")
    assert maps(planned(tmp_path / "T1.img", tmp_path / "T1.hdr")[0]) == ["T1"]


@pytest.mark.parametrize("other", ["T1.nii.gz", "T1.mgz", "T1.img", "T1.NII"])
def test_other_content_is_done_under_other_names(other: str, tmp_path: Path) -> None:
    (tmp_path / "T1.nii").write_bytes(b"one")
    (tmp_path / other).write_bytes(gzip.compress(b"two") if other.endswith("gz") else b"two")
    (tmp_path / "T2.nii").write_bytes(b"three")
    lines, _ = planned(tmp_path)
    assert sorted(maps(lines)) == sorted(["T1_nii", other.replace(".", "_"), "T2"])


def test_names_do_not_depend_on_the_order_of_the_inputs(tmp_path: Path) -> None:
    (tmp_path / "T1.nii").write_bytes(b"one")
    (tmp_path / "T1.nii.gz").write_bytes(gzip.compress(b"two"))
    paths = [tmp_path / "T1.nii", tmp_path / "T1.nii.gz"]
    one, two = (planned(*order)[0] for order in (paths, paths[::-1]))
    assert {line["scan"]: line["map"] for line in one} == {line["scan"]: line["map"] for line in two}


def test_the_same_name_from_two_folders_is_still_an_error(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "T1.nii").write_bytes(b"one")
    with pytest.raises(UsageError, match="would give the same map as"):
        planned(tmp_path / "a/T1.nii", tmp_path / "b/T1.nii")


def test_a_dry_run_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "here.nii").write_bytes(b"one")
    (tmp_path / "link.nii").symlink_to("nowhere.nii")
    listed = [tmp_path / "gone.nii", tmp_path / "link.nii"]
    lines, _ = planned(tmp_path / "here.nii", listed=listed)
    assert [(Path(line["scan"]).name, line["action"]) for line in lines] == [
        ("here.nii", "run"),
        ("gone.nii", "missing"),
        ("link.nii", "missing"),
    ]
    assert "nowhere.nii" in lines[2]["reason"]
