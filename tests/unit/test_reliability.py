"""The table of faults in packaging/docs/reliability.md is what happens: fault, exit code, message, what is left.

`UAD_WRITE_DOCS=1` writes it anew.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from stand import Stand, files_below

from uadcli.cli.app import main
from uadcli.data.names import name
from uadcli.detection import together

PAGE = Path(__file__).parents[2] / "packaging" / "docs" / "reliability.md"
HEAD = "| fault | exit code | message | left in the output folder |\n|---|---|---|---|\n"
Fault = Callable[[Path, pytest.MonkeyPatch], list[str]]


def writes(text: str) -> Fault:
    def make(scan: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        scan.write_text(text)
        return []

    return make


def full_log(scan: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    return ["--log-file", "/dev/full"]


def gone(scan: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    scan.unlink()
    return []


def at_the_second_move(act: Callable[[], object]) -> Fault:
    def make(scan: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        real, moved = os.replace, list[Path]()

        def replace(source: Path, target: Path) -> None:
            if ".uad-" not in str(target):
                moved.append(target)
                if len(moved) == 2:
                    act()
            real(source, target)

        monkeypatch.setattr(together.os, "replace", replace)
        return []

    return make


def no_space() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def taken(scan: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    holder = together.made_together(name(scan, scan.parent / "out" / "map.nii.gz", "native", (), False))
    holder.__enter__()
    monkeypatch.setattr(together, "_kept_by_test", holder, raising=False)  # until the test ends
    return []


def exists(scan: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (scan.parent / "out").mkdir()
    (scan.parent / "out" / "map.nii.gz").write_text("mine")
    return []


FAULTS: dict[str, Fault] = {
    "the scan vanishes": gone,
    "the scan is no brain": writes("bad"),
    "memory is not enough": writes("memory"),
    "the disk is full at the first file": writes("full"),
    "the disk fills when the second file gets its name": at_the_second_move(no_space),
    "the disk of the log file is full": full_log,
    "a result exists already": exists,
    "another process makes the same map": taken,
    "SIGTERM between two files": at_the_second_move(lambda: signal.raise_signal(signal.SIGTERM)),
    "Ctrl-C between two files": at_the_second_move(lambda: signal.raise_signal(signal.SIGINT)),
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_table_of_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = []
    for number, (fault, make) in enumerate(FAULTS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        scan, out = folder / "scan.nii", folder / "out"
        scan.write_text("scan")
        with pytest.MonkeyPatch.context() as patch:
            Stand(patch)
            more = make(scan, patch)
            given = ["detect", str(scan), "-o", str(out / "map.nii.gz"), "--device", "cpu", "--threads", "1", "--quiet"]
            code = main([*given, *more])
        said = (
            capsys.readouterr()
            .err.strip()
            .splitlines()[-1]
            .removeprefix("error: ")
            .replace(f"{folder}/", "")
            .replace("`", "")
        )
        left = [path for path in files_below(out) if not path.endswith(".lock")]
        assert "Traceback" not in said
        assert not any(path.startswith(".") for path in left)
        assert code not in (0, 1), fault
        lines.append(f"| {fault} | {code} | `{said}` | {', '.join(left) or 'nothing'} |\n")
    table = HEAD + "".join(lines)
    if os.environ.get("UAD_WRITE_DOCS"):
        PAGE.write_text(PAGE.read_text().split(HEAD)[0] + table if PAGE.exists() else table)
    assert table in PAGE.read_text()
