"""The public names of the package: found on first use, each in one home, without loading anything heavy before."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.resources import files

import pytest

import uadcli


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
