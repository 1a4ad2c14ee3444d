"""The inputs of `packaging/evaluation/inputs.py` that end before any work: each with its exit code, in one line."""

from __future__ import annotations

import argparse
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "packaging" / "evaluation" / "inputs.py"


def script() -> ModuleType:
    spec = spec_from_file_location("evaluation_inputs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


@pytest.mark.slow
def test_each_unusual_input_ends_as_the_documentation_says() -> None:
    inputs = script()
    given = argparse.Namespace(data=None, lines=[], quick=True)
    rows = list(inputs.rows(inputs.PARTS, given))
    assert len(rows) > 100
    assert not [(row.case.name, row.said, row.wrong) for row in rows if row.wrong]


def test_a_row_that_is_wrong_is_seen() -> None:
    inputs = script()
    case = inputs.Case("9", "a scan", ("detect", Path("scan.nii")), 3, "is empty")
    assert not inputs.faults(case, inputs.Ended(3, "error: scan.nii: is empty\n", None), {})
    for ended in (
        inputs.Ended(1, "error: scan.nii: is empty\n", None),
        inputs.Ended(3, "error: scan.nii: is full\n", None),
        inputs.Ended(3, "error: other.nii: is empty\n", None),
        inputs.Ended(3, "ITK ERROR\nTraceback\nerror: scan.nii: is empty\n", None),
    ):
        assert inputs.faults(case, ended, {})
