"""Training scans whose names say no contrast: one that is certainly none of the known ones is left out, and why."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from uadcli.data.scan_json import contrast_without_option
from uadcli.data.tissue_contrast import ContrastGuess, TissueStatistics
from uadcli.errors import InputError

T2W = TissueStatistics(2.5, 0.8, 5.0, -1.0, 4.0, 2.0, -0.3)


def prepared(other: str = "") -> Any:
    return SimpleNamespace(contrast=lambda: ContrastGuess("T2w", T2W, other))


def test_an_image_of_a_known_contrast_is_taken(tmp_path: Path) -> None:
    assert contrast_without_option(tmp_path / "scan.nii.gz", prepared()).contrast == "T2w"


def test_one_of_another_contrast_is_left_out_by_its_image(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"covers: as in T2\*"):
        contrast_without_option(tmp_path / "scan.nii.gz", prepared("as in T2*"))


def test_and_by_the_json_file_next_to_it(tmp_path: Path) -> None:
    (tmp_path / "scan.json").write_text(json.dumps({"ScanningSequence": "EP", "EchoTime": 0.09}))
    with pytest.raises(InputError, match="covers: the JSON file says an echo-planar image"):
        contrast_without_option(tmp_path / "scan.nii.gz", prepared())
    (tmp_path / "scan.json").write_text(json.dumps({"SeriesDescription": "T1_MPRAGE"}))
    with pytest.raises(InputError, match="JSON file says T1w, the image looks like T2w"):
        contrast_without_option(tmp_path / "scan.nii.gz", prepared())


def test_and_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the file name says dwi"):
        contrast_without_option(tmp_path / "dwi.nii.gz", prepared())
