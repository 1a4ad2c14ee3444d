"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from uadcli import files
from uadcli.errors import InputError, OutputError


@pytest.mark.parametrize("name", ["map.nii.gz", "map.nii", "a.b.json", "none", "last-01.safetensors"])
def test_a_written_file_and_its_temporary_file_have_the_same_suffix(name: str, tmp_path: Path) -> None:
    seen = []

    def write(temporary: Path) -> None:
        seen.append(temporary)
        temporary.write_bytes(b"new")

    (tmp_path / name).write_bytes(b"old")
    files.write_with(tmp_path / name, write)
    assert (tmp_path / name).read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert seen[0].name.startswith(".")
    assert seen[0].name.endswith(name[name.index(".nii") :] if ".nii" in name else Path(name).suffix)


@pytest.mark.parametrize(("fault", "becomes"), [(OSError(28, "no space"), OutputError), (ValueError("no"), ValueError)])
def test_a_write_that_fails_leaves_what_was_there(fault: Exception, becomes: type[Exception], tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise fault

    path = tmp_path / "map.nii"
    path.write_bytes(b"old")
    with pytest.raises(becomes):
        files.write_with(path, write)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        files.write_text(tmp_path / "none" / "a.txt", "text")


def test_bytes_of_a_name_that_are_no_text_become_escapes(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "ä \udce9")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "ä \\udce9"


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a subject whose folder belongs to someone else would be missing from a batch without a word."""
    real, faults = os.scandir, dict[str, OSError]()

    def scandir(place: Any) -> Any:
        if (name := Path(place).name) in faults:
            raise faults[name]
        return real(place)

    monkeypatch.setattr(os, "scandir", scandir)
    for name in ("sub-01", "sub-02"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.nii").touch()
    closed = str(tmp_path / "sub-02")
    faults["sub-02"] = FileNotFoundError(2, "No such file or directory", closed)  # removed meanwhile
    listed = files.folders_below(tmp_path)
    assert (tmp_path / "sub-01", ["a.nii"]) in listed
    faults["sub-02"] = PermissionError(13, "Permission denied", closed)
    assert files.folders_below(tmp_path, lambda path: path.name != "sub-02") == listed
    with pytest.raises(InputError, match=r"sub-02: cannot be read: Permission denied\."):
        files.folders_below(tmp_path)
