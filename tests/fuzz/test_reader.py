"""The reader under 1e5 damaged files: each is a scan or an `InputError` that names the file, in 2 s and little memory.

`make fuzz` runs them all; UAD_FUZZ is how many, and in `make test` it is a share. A case is its number: to look at one,
`UAD_FUZZ_FIRST=12345 UAD_FUZZ=1`. Numbers that once failed are kept in `KEPT`.
"""

from __future__ import annotations

import os
import resource
import warnings
from pathlib import Path

import limits
import mutations
import numpy as np
import pytest

from uadcli.errors import InputError
from uadcli.imaging import header_geometry
from uadcli.imaging.geometry import spacing
from uadcli.imaging.volume import Scan, read_scan, write_native
from uadcli.running import faults

CASES = int(os.environ.get("UAD_FUZZ", "3000"))
FIRST = int(os.environ.get("UAD_FUZZ_FIRST", "0"))
PARTS = 4 if CASES >= 4 else 1
MEMORY_KB = 500_000
# of the first 500: what an earlier reader ended with OverflowError or MemoryError, read for seconds, or took at 1e5 mm
# and 5237: a header of a pair in a single file, which could not be written
KEPT = (5237, 92, 146, 166, 221, 222, 261, 273, 313, 324, 328, 342, 363, 367, 418, 442, 453, 478, 492)


def _case(number: int, folder: Path) -> Scan | InputError:
    for file in folder.iterdir():
        file.unlink()
    path = mutations.write(number, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return read_scan(path, geometry=("auto", "sform", "qform", "trust")[number % 7 % 4])
        except InputError as error:
            if faults.is_memory(error):
                raise
            return error


def _check(scan: Scan | InputError, folder: Path) -> None:
    if isinstance(scan, InputError):
        assert str(folder) in str(scan)
        assert scan.hint
        return
    size = spacing(scan.source_affine)
    assert (size >= header_geometry.SPACING_MM[0]).all()
    assert (size <= header_geometry.SPACING_MM[1]).all()
    assert (size * scan.source_shape <= header_geometry.LONGEST_MM).all()
    assert np.isfinite(scan.volume.data).all()
    assert np.isfinite(scan.volume.affine).all()
    write_native(folder / "map.nii", scan.volume.data, scan)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_damaged_file_is_a_scan_or_an_error_that_names_it(
    part: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    accepted = 0
    with limits.memory():
        for number in range(FIRST + part, FIRST + CASES, PARTS):
            with limits.bounded(number):
                result = _case(number, tmp_path)
                _check(result, tmp_path)
            accepted += isinstance(result, Scan)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KB
    assert capfd.readouterr() == ("", "")  # nothing is said by a library
    if CASES >= 400:
        assert 0.02 < accepted * PARTS / CASES < 0.9  # the cases are neither all good nor all hopeless


@pytest.mark.parametrize("number", KEPT)
def test_cases_that_once_failed(number: int, tmp_path: Path) -> None:
    _check(_case(number, tmp_path), tmp_path)


@pytest.mark.parametrize("number", [3, 11, 1005])
def test_a_case_is_made_alike_again(number: int, tmp_path: Path) -> None:
    sums = set()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        sums.add(mutations.checksum(mutations.write(number, tmp_path / folder)))
    assert len(sums) == 1
