"""File names with everything a file system lets into them."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from stand import Stand

from uadcli.batches import plan, tables
from uadcli.cli.app import main

SUFFIX = "_desc-anomaly_map.nii.gz"
NAMES = (
    *("two words", "Schädel", "Scha\u0308del", "脑", "two\nlines", "tab\there", "back\\slash", "-dash", "$(touch x)"),
    *("it's", 'a "quote"', "*", "[ab]", "50%", "#1", "semi;colon", "<script>", os.fsdecode(b"latin\xe4")),
)
SAME = ["--device", "cpu", "--threads", "1"]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A scan of each name, in a folder whose name has all of space, letter and line end."""
    folder = tmp_path / "in ü\n1"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.nii").write_text(f"scan {name.encode('utf-8', 'surrogateescape')!r}")
    return folder


def done(out: Path) -> set[str]:
    return {path.name.removesuffix(SUFFIX) for path in out.rglob(f"*{SUFFIX}")}


def mapped(table: Path) -> list[str]:
    """The first column of a table, as it was before it was put on one line."""
    text = table.read_text(encoding="utf-8", errors="surrogateescape")
    return [tables._plain(line.split("\t")[0]).removesuffix(SUFFIX) for line in text.split("\n")[1:] if line]


def test_batch_does_them_in_a_folder_a_pattern_and_by_name(
    odd: Path, stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for out, inputs in (
        ("of a folder", [str(odd)]),
        ("of a pattern", [f"{odd}/*.ni[i]"]),
        ("by name", [str(odd / f"{name}.nii") for name in NAMES]),
    ):
        assert main(["batch", *inputs, "-o", str(tmp_path / out), "--workers", "0", "--html", *SAME]) == 0
        assert done(tmp_path / out) == set(NAMES)
        assert sorted(mapped(tmp_path / out / "summary.tsv")) == sorted(NAMES)
    monkeypatch.chdir(odd)
    words = [f"{name}.nii" for name in NAMES]
    assert main(["batch", "-o", str(tmp_path / "after --"), "--workers", "0", *SAME, "--", *words]) == 0
    assert done(tmp_path / "after --") == set(NAMES)
    assert not (odd / "x").exists()


def test_batch_does_them_from_lists(odd: Path, stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [bytes(odd / f"{name}.nii") for name in NAMES]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\0".join(paths))))
    assert main(["batch", "--list", "-", "-0", "-o", str(tmp_path / "nul"), "--workers", "0", *SAME]) == 0
    assert done(tmp_path / "nul") == set(NAMES)
    monkeypatch.chdir(odd)
    lines = [os.fsencode(f"{name}.nii") for name in NAMES if "\n" not in name]
    (tmp_path / "list").write_bytes(b"\n".join(lines))
    arguments = ["batch", "--list", str(tmp_path / "list"), "-o", str(tmp_path / "lines"), "--workers", "0", *SAME]
    assert main(arguments) == 0
    assert done(tmp_path / "lines") == {name for name in NAMES if "\n" not in name}


def test_plan_resume_and_failures_keep_the_names(
    odd: Path, stand: Stand, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["batch", str(odd), "-o", str(tmp_path / "out"), "--workers", "0", *SAME]
    assert main([*command, "--dry-run"]) == 0
    steps = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {Path(step["scan"]).stem for step in steps} == set(NAMES)
    assert {step["action"] for step in steps} == {"run"}
    assert main([*command, "--cluster", "debug", "--jobs", "3"]) == 0
    capfd.readouterr()
    assert main([*command, "--dry-run"]) == 0
    assert {json.loads(line)["action"] for line in capfd.readouterr().out.splitlines()} == {"skip"}
    for name in NAMES:
        (odd / f"{name}.nii").write_text("bad")
    assert main(command) == 8
    err = capfd.readouterr().err.splitlines()
    assert len([line for line in err if line.startswith("error: ")]) == len(NAMES) + 1
    assert sorted(mapped(tmp_path / "out" / "failed.tsv")) == sorted(NAMES)
    for name in NAMES:
        (odd / f"{name}.nii").write_text("mended")
    assert main([*command, "--retry-failed"]) == 0
    assert mapped(tmp_path / "out" / "failed.tsv") == []


@pytest.mark.parametrize("name", NAMES)
def test_detect_does_them(
    odd: Path, stand: Stand, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], name: str
) -> None:
    assert main(["detect", str(odd / f"{name}.nii"), *SAME]) == 0
    expected = odd / f"{name}{SUFFIX}"
    assert capfdbinary.readouterr().out == bytes(expected) + b"\n"
    assert expected.exists()
    content = json.loads((odd / f"{name}_desc-anomaly_map.json").read_text())
    assert content["outputs"]["map"] == expected.name
    other = tmp_path / f"to {name}" / f"{name}.nii.gz"
    assert main(["detect", str(odd / f"{name}.nii"), "-o", str(other), *SAME]) == 0
    assert other.exists()


def test_hidden_folders_of_different_maps_differ(odd: Path, stand: Stand, tmp_path: Path) -> None:
    from uadcli.batches.inputs import Found
    from uadcli.detection import together
    from uadcli.detection.options import DetectOptions

    jobs = plan.jobs([Found(odd / f"{name}.nii") for name in NAMES], tmp_path, DetectOptions())
    assert len({together.hidden_folder(job.files.map) for job in jobs}) == len(NAMES)
