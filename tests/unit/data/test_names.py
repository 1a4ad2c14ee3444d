"""The names of a run's files, and what is not overwritten."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from uadcli.data import names
from uadcli.detection.options import DetectOptions
from uadcli.errors import OutputError, UsageError
from uadcli.model.healthy_folder import HealthyScans


def test_output_names(tmp_path: Path) -> None:
    scan = tmp_path / "a b.nii.gz"
    files = names.plan(scan, None, DetectOptions(space="both", save=("all",))).paths
    assert files["map"].name == "a b_desc-anomaly_map.nii.gz"
    assert set(files) == {"map", "mask", "overlay", "sidecar", "mni_map", "mni_mask", "recon", "brain", "transform"}
    assert list(names.plan(scan, tmp_path / "m.nii", DetectOptions(only_map=True)).paths) == ["map"]
    page = names.plan(scan, tmp_path / "m.nii.gz", DetectOptions(html=True)).paths["page"]
    assert page == tmp_path / "m.html"
    with pytest.raises(UsageError):
        names.plan(scan, tmp_path / "map.png", DetectOptions())


def test_existing_output_and_the_scan_itself_are_not_overwritten(tmp_path: Path) -> None:
    scan = tmp_path / "a.nii.gz"
    scan.write_bytes(b"x")
    (tmp_path / "m_mask.nii.gz").write_bytes(b"x")
    with pytest.raises(OutputError, match="exists"):
        names.plan(scan, tmp_path / "m.nii.gz", DetectOptions())
    assert names.plan(scan, tmp_path / "m.nii.gz", DetectOptions(overwrite=True))
    with pytest.raises(UsageError, match="scan itself"):
        names.plan(scan, scan, DetectOptions(overwrite=True))


@pytest.mark.parametrize("overwrite", [True, False])
@pytest.mark.parametrize(
    ("output", "what"),
    [
        ("brain_mask.nii.gz", "the brain mask"),
        ("brain.nii.gz", "the brain mask"),  # of that map it would be the findings
        ("lesions.nii", "the label mask"),
        ("t2.nii.gz", "a scan of --with"),
        ("healthy.nii.gz", "a healthy scan of --adapt"),
        ("a.nii.gz", "the JSON file of the scan"),  # the scan is a.nii, and the sidecar would be a.json
        ("t2.nii", "the JSON file of a scan of --with"),
        ("healthy.nii", "the JSON file of a healthy scan of --adapt"),
    ],
)
def test_no_result_takes_the_place_of_a_file_that_is_read(
    tmp_path: Path, output: str, what: str, overwrite: bool
) -> None:
    scan, further, healthy = tmp_path / "a.nii", tmp_path / "t2.nii.gz", tmp_path / "healthy.nii.gz"
    brain, labels = tmp_path / "brain_mask.nii.gz", tmp_path / "lesions.nii"
    written = [scan, further, healthy, brain, labels, *(tmp_path / f"{name}.json" for name in ("a", "t2", "healthy"))]
    for path in written:
        path.write_bytes(b"x")
    options = DetectOptions(
        further=(further,), brain_mask=brain, labels=labels, adapt=HealthyScans(tmp_path, {"": healthy})
    )
    with pytest.raises(UsageError, match=f"is {what}"):
        names.plan(scan, tmp_path / output, dataclasses.replace(options, overwrite=overwrite))
    assert all(path.read_bytes() == b"x" for path in written)


def test_a_file_that_is_read_is_known_by_any_path(tmp_path: Path) -> None:
    scan, mask, link = tmp_path / "a.nii", tmp_path / "m.nii.gz", tmp_path / "link"
    scan.write_bytes(b"x")
    mask.write_bytes(b"x")
    link.symlink_to(tmp_path)
    with pytest.raises(UsageError, match="is the brain mask"):
        names.plan(scan, link / "m.nii.gz", DetectOptions(brain_mask=mask, overwrite=True))


def test_a_folder_without_a_name_is_no_obstacle_to_names(tmp_path: Path) -> None:
    """Reading it says what is wrong, of one scan in a batch as of any other."""
    assert names.plan(Path("."), tmp_path / "m.nii.gz", DetectOptions(further=(Path("/"),)))


def test_a_sidecar_never_becomes_the_json_file_of_its_scan(tmp_path: Path) -> None:
    """There is none yet, but the next run would take it for one."""
    scan = tmp_path / "a.nii"
    scan.write_bytes(b"x")
    with pytest.raises(UsageError, match=r"a\.json: is the JSON file of the scan"):
        names.plan(scan, tmp_path / "a.nii.gz", DetectOptions())
    assert names.plan(scan, tmp_path / "a.nii.gz", DetectOptions(only_map=True))
