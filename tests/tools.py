"""The programs that some tests drive: where they are, and what a missing one means."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest

COMPLETE = "UAD_TESTS_COMPLETE"  # set by continuous integration: a missing program fails its tests
PATHS = (str(Path(sys.executable).parent), str(Path(sys.prefix) / "snakemake" / "bin"), os.defpath, "/usr/sbin")


def program(*names: str, install: str) -> str:
    """The path of the first of `names` that is installed; else the test is skipped, or fails where all must run."""
    search = os.pathsep.join((os.environ.get("PATH", ""), *PATHS))
    found = next((path for path in (shutil.which(name, path=search) for name in names) if path), None)
    return found or missing(f"no {names[0]} on this machine ({install})")


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it where `UAD_TESTS_COMPLETE` is set: there, everything can be installed."""
    if os.environ.get(COMPLETE):
        pytest.fail(f"{what}; {COMPLETE} is set, so this test must run", pytrace=False)
    pytest.skip(what)


def programs(names: Sequence[str], install: str) -> dict[str, str]:
    """The paths of several programs that a test needs together."""
    return {name: program(name, install=install) for name in names}
