"""The JSON sidecar: schema, missing numbers, atomic writing."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from uadcli.errors import OutputError
from uadcli.files import write_json
from uadcli.report import sidecar


def example(**changed):
    values = {f.name: {} for f in dataclasses.fields(sidecar.Sidecar) if f.default is f.default_factory}
    values |= {"command": "uad detect a.nii.gz", "device": "cpu", "seed": 0, "score": "absolute", "strip": "hd-bet"}
    values |= {"brain_volume_ml": 1400.0, "warnings": [], "peak_memory_mb": 900.0, "space": "native"}
    return sidecar.Sidecar(**(values | changed))


def test_every_required_key_is_there_and_the_file_is_json(tmp_path):
    path = tmp_path / "map.json"
    write_json(path, example().to_dict())
    content = json.loads(path.read_text(encoding="utf-8"))
    assert set(content) == {f.name for f in dataclasses.fields(sidecar.Sidecar)}
    assert content["schema_version"] == sidecar.SCHEMA_VERSION == 1
    assert "esearch use only" in content["research_use_only"]
    assert list(content)[:2] == ["schema_version", "research_use_only"]


def test_a_forgotten_or_misspelt_key_is_refused():
    with pytest.raises(TypeError):
        sidecar.Sidecar(device="cpu")
    with pytest.raises(TypeError):
        example(treshold={})


def test_no_number_that_is_not_finite_is_written(tmp_path):
    path = tmp_path / "map.json"
    content = {"a": math.nan, "b": [1.5, -math.inf, {"c": (math.inf, 2)}], "flag": True}
    write_json(path, content)
    assert json.loads(path.read_text()) == {"a": None, "b": [1.5, None, {"c": [None, 2]}], "flag": True}


def test_numbers_of_numpy_are_written_as_numbers(tmp_path):
    path = tmp_path / "map.json"
    write_json(path, {"f": np.float32(0.5), "n": np.float32("nan"), "i": np.int64(3)})
    assert json.loads(path.read_text()) == {"f": 0.5, "n": None, "i": 3}


def test_an_existing_file_survives_a_failed_write(tmp_path):
    path = tmp_path / "map.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        write_json(path, {"bad": object()})
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["map.json"]


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written") as caught:
        write_json(tmp_path / "none" / "map.json", {})
    assert caught.value.hint
    assert not os.listdir(tmp_path)


def test_versions_are_read_without_importing_the_packages():
    code = (
        "import sys; from uadcli.report.sidecar import versions; v = versions(); "
        "assert all(v[n] for n in ('numpy', 'torch', 'uadcli', 'antspyx', 'nibabel', 'python')), v; "
        "sys.exit(bool({'torch', 'ants', 'SimpleITK', 'nibabel', 'scipy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_peak_memory_is_in_megabytes():
    assert 10 < sidecar.peak_memory_mb() < 100_000


def test_a_contrast_that_was_left_out_fails_under_strict():
    from uadcli.errors import QualityError

    content = {"qc": {"verdict": "pass", "checks": []}, "gate": {"beyond": None}, "contrasts": None}
    sidecar.refuse_failed("a.nii", content)
    used, gone = ({"name": name, "left_out": why} for name, why in (("a.nii", None), ("b.nii", "no brain was found")))
    sidecar.refuse_failed("a.nii", content | {"contrasts": [used, used]})
    with pytest.raises(QualityError, match=r"left out, b.nii: no brain was found"):
        sidecar.refuse_failed("a.nii", content | {"contrasts": [used, gone]})
