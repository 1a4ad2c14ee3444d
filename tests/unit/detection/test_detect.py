"""One detection: what is known before the work, and what its result gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


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


def test_the_result_gives_the_map_and_the_findings(tmp_path: Path) -> None:
    import inspect

    import nibabel as nib

    import uadcli
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
