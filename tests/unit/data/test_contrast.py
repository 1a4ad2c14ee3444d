"""The contrast by the name of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from uadcli.data.contrast import from_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sub-01_T1w.nii.gz", "T1w"),
        ("sub-01_acq-se_T2w.nii", "T2w"),
        ("sub-01_FLAIR.nii.gz", "FLAIR"),
        ("501_t2_flair_tra.nii.gz", "FLAIR"),
        ("Ax T2 FLAIR.nii.gz", "FLAIR"),
        ("4_t1_mprage_sag.nii.gz", "T1w"),
        ("3_t2_tse_tra.nii.gz", "T2w"),
        ("T1.nii.gz", "T1w"),
        ("st1ff.nii.gz", None),
        ("scan.nii.gz", None),
        ("sub-01_T2starw.nii.gz", None),
        ("pet12.nii", None),
    ],
)
def test_contrast_by_name(name: str, expected: str | None) -> None:
    assert from_name(Path("t1/flair") / name) == expected
