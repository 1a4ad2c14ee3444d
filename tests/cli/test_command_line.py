"""The command in a sidecar names files, but neither the folders of a machine nor its users."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from uadcli.cli.command_line import command_line


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("{here}/sub/scan.nii.gz", "sub/scan.nii.gz"),
        ("{here}", "."),
        ("/home/anna/scan 1.nii.gz", ".../scan 1.nii.gz"),
        ("~/scan.nii.gz", ".../scan.nii.gz"),
        ("~anna/scan.nii.gz", ".../scan.nii.gz"),
        ("../anna/scan.nii.gz", ".../scan.nii.gz"),
        ("sub/../scan.nii.gz", "scan.nii.gz"),
        ("--output=/home/anna/map.nii.gz", "--output=.../map.nii.gz"),
        ("-o/home/anna/map.nii.gz", "-o.../map.nii.gz"),
        ("-o../anna/map.nii.gz", "-o.../map.nii.gz"),
        ("-qo/home/anna/map.nii.gz", "-qo.../map.nii.gz"),
        ("-omaps/map.nii.gz", "-omaps/map.nii.gz"),
        ('train.label_maps="/home/anna/maps"', 'train.label_maps=".../maps"'),
        ("/home/anna/*.nii.gz", ".../*.nii.gz"),
        ("C:\\Users\\anna\\scan.nii", ".../scan.nii"),
        ("/", "..."),
        ("hf://lab/model@0123", "hf://lab/model@0123"),
        ("rate:0.001", "rate:0.001"),
        ("--threshold=0.5", "--threshold=0.5"),
        ("sub-01/anat/scan.nii.gz", "sub-01/anat/scan.nii.gz"),
        ("-o", "-o"),
        ("-", "-"),
    ],
)
def test_no_place_outside_the_working_folder(
    typed: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    typed = typed.format(here=Path.cwd())
    assert shlex.split(command_line(["detect", typed])) == ["uad", "detect", kept]
    assert shlex.split(command_line(["detect", typed], keep_paths=True)) == ["uad", "detect", typed]


def test_a_working_folder_behind_a_symbolic_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "real")
    monkeypatch.setenv("PWD", str(tmp_path / "link"))
    assert command_line([f"{tmp_path}/link/a.nii"]) == "uad a.nii"
