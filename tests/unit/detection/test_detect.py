"""One detection: what is known before the work, and what its result gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import uadcli
from uadcli.errors import InputError, UsageError


def test_a_method_without_weights_is_refused_before_any_work(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uadcli.config import DetectConfig, ReconstructionConfig
    from uadcli.console import Reporter
    from uadcli.detection import detect
    from uadcli.detection.options import DetectOptions
    from uadcli.detection.session import Session
    from uadcli.errors import WeightsError

    monkeypatch.delenv("UAD_WEIGHTS_DIR", raising=False)
    monkeypatch.setattr(detect, "prepare", lambda *_, **__: pytest.fail("it was prepared"))
    config = DetectConfig(reconstruction=ReconstructionConfig(method="dae"))
    with pytest.raises(WeightsError, match="--method dae"):
        detect.ready_scan(example, Session(config, DetectOptions(), "cpu", Reporter(silent=True)))


@pytest.mark.parametrize(
    ("scan", "kind"),
    [
        (np.zeros((3, 3, 3)), "ndarray"),
        (nib.Nifti1Image(np.zeros((3, 3, 3), np.float32), np.eye(4)), "Nifti1Image"),
        (["a_FLAIR.nii.gz", np.zeros(3)], "ndarray"),
        ([[]], "list"),
        (b"a.nii.gz", "int"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_path_is_no_scan(scan: Any, kind: str) -> None:
    with pytest.raises(UsageError, match=rf"^a scan cannot be given as {kind}\. Give the path of a scan file, or"):
        uadcli.detect(scan)


@pytest.mark.parametrize("folder", [".", "/", ""])
def test_a_folder_without_a_name_is_no_scan(folder: str) -> None:
    with pytest.raises(InputError, match="is a folder, not a scan"):
        uadcli.detect(folder)


def test_a_list_of_no_scan_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^no scan is given\. Give the path of a scan file, or"):
        uadcli.detect([])


def test_the_result_gives_the_map_and_the_findings(tmp_path: Path) -> None:
    import inspect

    from uadcli.detection.detect import DetectResult

    data = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    nib.Nifti1Image(data, np.diag([1.0, 2, 3, 1])).to_filename(tmp_path / "map.nii.gz")
    found = DetectResult(tmp_path / "map.nii.gz", {"anomaly": {"components": [{"index": 1, "volume_ml": 2.0}]}})
    assert np.array_equal(found.image.get_fdata(), data)
    assert np.array_equal(found.image.affine, np.diag([1.0, 2, 3, 1]))
    assert found.findings == [{"index": 1, "volume_ml": 2.0}]
    parameters = inspect.signature(uadcli.detect).parameters
    assert len(parameters) <= 8
    assert "config" in parameters
