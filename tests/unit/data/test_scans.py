"""A scan under two names counts once."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path

import pytest

from uadcli.console import Reporter
from uadcli.data.dataset import Case
from uadcli.data.scans import each_once


def case(folder: Path, name: str, content: bytes, part: str = "train") -> Case:
    scan = folder / f"{name}.nii"
    scan.write_bytes(content)
    return Case(name, "lab", part, "T1w", scan, None)


def test_of_a_scan_under_two_names_the_first_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [case(tmp_path, name, content) for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one"))]
    assert each_once(cases, Reporter()) == cases[:2]
    assert f"{cases[2].scan}: left out: it is the same scan as {cases[0].scan}" in capsys.readouterr().err


def test_a_scan_beside_its_compressed_self_counts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [case(tmp_path, "a", b"one"), case(tmp_path, "b", b"three")]
    for one, content in zip(tuple(cases), (b"one", b"other"), strict=True):
        packed = one.scan.with_name(f"{one.scan.name}.gz")
        packed.write_bytes(gzip.compress(content))
        cases.append(dataclasses.replace(one, scan=packed))
    assert each_once(cases, Reporter()) == [*cases[:2], cases[3]]
    assert f"{cases[2].scan}: left out: it is the same scan as {cases[0].scan}" in capsys.readouterr().err


def test_a_scan_in_both_parts_is_trained_on_and_judges_nothing(tmp_path: Path) -> None:
    cases = [case(tmp_path, "a", b"one", "val"), case(tmp_path, "b", b"one"), case(tmp_path, "c", b"two", "val")]
    assert each_once(cases, Reporter(silent=True)) == cases[1:]


def test_files_of_different_sizes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [case(tmp_path, "a", b"one"), case(tmp_path, "b", b"three")]
    monkeypatch.setattr("uadcli.data.scans.file_sha256", lambda path: pytest.fail(f"{path} is read"))
    assert each_once(cases, Reporter(silent=True)) == cases
