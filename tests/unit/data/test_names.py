"""The names of a run's files, and what is not overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from uadcli.data import names
from uadcli.detection.options import DetectOptions
from uadcli.errors import OutputError, UsageError


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
