"""The public names of the package: found on first use, each in one home, without loading anything heavy before."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import uadcli
from uadcli.errors import UadError


def test_every_public_name_is_there_and_has_a_docstring() -> None:
    assert set(uadcli.HOMES) == {name for name in uadcli.__all__ if not name.startswith("_")}
    for name, home in uadcli.HOMES.items():
        found = getattr(uadcli, name)
        assert found is getattr(importlib.import_module(home), name)
        assert found.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'detects'"):
        _ = uadcli.detects  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, uadcli; print(*{'torch', 'numpy', 'nibabel', 'ants'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_the_package_says_that_it_is_typed() -> None:
    assert (files(uadcli) / "py.typed").is_file()


def test_options_take_paths_as_texts_as_the_functions_do(tmp_path: Path) -> None:
    options = uadcli.DetectOptions(
        further=["T1w.nii"],  # type: ignore[arg-type]
        brain_mask="brain.nii",  # type: ignore[arg-type]
        weights=Path("lab"),  # type: ignore[arg-type]
        save="all",  # type: ignore[arg-type]
    )
    assert (options.further, options.brain_mask, options.weights) == ((Path("T1w.nii"),), Path("brain.nii"), "lab")
    assert options.save == ("recon", "brain", "transform")
    (tmp_path / "scan_T1w.nii").touch()
    with pytest.raises(UadError):  # and not an AttributeError
        uadcli.detect(tmp_path / "scan_T1w.nii", options=options)
