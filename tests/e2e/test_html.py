"""`uad detect --html` on a scan whose name and header hold a script."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import phantoms
import pytest

from uadcli.config import DetectConfig, ReconstructionConfig
from uadcli.detection.detect import detect
from uadcli.detection.options import DetectOptions


@pytest.mark.slow
def test_a_script_in_the_name_or_the_header_does_not_reach_the_page(tmp_path: Path) -> None:
    volume = phantoms.brain((-32.0, -10.0, 28.0), 13)
    scan = phantoms.save(tmp_path / "a<script>alert(1)<!--_T1w.nii.gz", volume.data, volume.affine)
    image = nib.load(scan)
    image.header["descrip"] = b"<script>alert(2)</script>Jane Doe"
    image.header["db_name"] = b"Jane Doe"
    nib.Nifti1Image(image.get_fdata(), None, image.header).to_filename(tmp_path / "b<script>.nii.gz")
    (tmp_path / "b<script>.nii.gz").replace(scan)
    assert b"Jane Doe" in nib.load(scan).header["descrip"].tobytes()
    config = DetectConfig(reconstruction=ReconstructionConfig(levels=(500,)))  # more would say no more of the page
    result = detect(scan, tmp_path / "m.nii.gz", config=config, options=DetectOptions(html=True, score="absolute"))
    html = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert result.sidecar["outputs"]["page"] == "m.html"
    assert html.count("<script") == 2  # the data and the viewer
    assert "a&lt;script&gt;alert(1)" in html
    for text in ("alert(2)", "Jane", "<script>alert", "http://", "https://"):
        assert text not in html
    assert len(html.encode()) < 3_000_000
    assert not list(tmp_path.glob(".*"))
