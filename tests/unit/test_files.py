"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from uadcli import files
from uadcli.errors import OutputError


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
