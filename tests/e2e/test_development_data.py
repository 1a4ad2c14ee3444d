"""What only real scans can show; skipped, visibly, where the development data are not there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from development import cases

from uadcli.config import PreprocessConfig
from uadcli.data.prepare import prepare
from uadcli.imaging import skullstrip
from uadcli.imaging.levels import levelled
from uadcli.imaging.volume import read_scan

pytestmark = [pytest.mark.slow, pytest.mark.data]


def test_parts_are_split_by_subject(data: Path) -> None:
    found = cases(data)
    parts: dict[str, set[str]] = {}
    for case in found:
        parts.setdefault(case.subject, set()).add(case.part)
        assert case.scan.exists()
    assert all(len(p) == 1 for p in parts.values())
    assert sum(c.part == "val" and c.contrast == "FLAIR" for c in found) == 6


@pytest.mark.parametrize(
    ("name", "contrast"),
    [
        ("mslub_raw/sub-01/anat/sub-01_T2w.nii.gz", "T2w"),
        ("tcga_lgg/sub-CS4944/anat/sub-CS4944_FLAIR.nii.gz", "FLAIR"),
        ("oasis_t1_stripped/sub-1011/anat/sub-1011_desc-brain_T1w.nii.gz", "T1w"),
    ],
)
def test_contrast_and_place_of_real_scans(name: str, contrast: str, data: Path) -> None:
    prepared, _ = prepare(read_scan(data / name), PreprocessConfig(strip="atlas"))
    assert prepared.mask_overlap > 0.88
    assert prepared.contrast().contrast == contrast


def test_back_ends_agree_on_a_head(data: Path) -> None:
    volume = levelled(read_scan(data / "ixi_t1/sub-IXI049/anat/sub-IXI049_T1w.nii.gz").volume)
    network = skullstrip.extract(volume, "hd-bet").mask
    atlas = skullstrip.extract(volume, "atlas").mask
    assert 2 * (network & atlas).sum() / (network.sum() + atlas.sum()) > 0.9


def test_stripped_scans_are_recognised(data: Path) -> None:
    for name in (
        "mslub_mni/sub-07/anat/sub-07_desc-brain_T2w.nii.gz",
        "kirby21/sub-113/anat/sub-113_desc-brain_T2w.nii.gz",
    ):
        assert skullstrip.looks_stripped(levelled(read_scan(data / name).volume))
    head = read_scan(data / "tcga_lgg/sub-CS4941/anat/sub-CS4941_FLAIR.nii.gz").volume
    assert not skullstrip.looks_stripped(levelled(head))
    assert np.isfinite(head.data).all()
