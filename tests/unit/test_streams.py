"""Streams that are closed, broken or full: the work is done all the same, and libraries keep off them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cohort
import phantoms
import pytest
from models import export

from uadcli import streams
from uadcli.cli.app import main
from uadcli.console import Reporter

UAD = f"{sys.executable} -m uadcli"
TALK = f"""{sys.executable} -c "
import os, sys
from uadcli import console, streams
from uadcli.console import Reporter
streams.open_missing()
reporter = Reporter()
for n in range(2000):
    reporter.info('line of talk that somebody may read')
open('map', 'w').write('whole')
os.write(2, b'libraries write here')
console.print_result('result')
" """


def _shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize(
    "ending",
    ["2>&-", ">&-", "<&- >&- 2>&-", "2>&1 | head -1", "| true", "2> >(exec head -c 1 >/dev/null)", "2>/dev/full"],
)
def test_work_is_done_whatever_becomes_of_the_streams(ending: str, tmp_path: Path) -> None:
    done = _shell(TALK + ending, tmp_path)
    assert (tmp_path / "map").read_text() == "whole"
    assert done.returncode == 0
    assert "Error" not in done.stdout + done.stderr


def test_result_that_cannot_be_stored_is_an_error(tmp_path: Path) -> None:
    done = _shell(f"{UAD} --version > /dev/full", tmp_path)
    assert done.returncode == 6
    assert done.stderr.splitlines() == [
        "error: the result cannot be printed: No space left on device. What was written to files is complete."
    ]


COMMANDS = [
    "--version",
    "config",
    "cite",
    "--help",
    "detect -h",
    "weights --help",
    "weights list",
    "--show-completion bash",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_survives_a_closed_pipe(command: str, tmp_path: Path) -> None:
    done = _shell(f"{UAD} {command} | true", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_first_line_of_the_help(tmp_path: Path) -> None:
    done = _shell(f"{UAD} --help | head -2", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: uad" in done.stdout


def test_a_pipe_that_breaks_in_a_command_is_a_bug_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    def work(*_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("uadcli.cli.info.print_result", work)
        assert main(["config"]) == 1
    assert "this is a bug" in capsys.readouterr().err


@pytest.mark.parametrize("ending", [">&- 2>&-", "2>&1 | head -1"])
@pytest.mark.slow
def test_map_is_written_whatever_becomes_of_the_streams(ending: str, tmp_path: Path) -> None:
    volume = phantoms.brain((-32.0, -10.0, 28.0))
    phantoms.save(tmp_path / "a_T1w.nii.gz", volume.data, volume.affine)
    export(tmp_path / "tiny", cohort.TINY, contrast="T1w")
    options = "-o map.nii.gz --strip none --only-map --weights tiny"
    done = _shell(f"{UAD} detect a_T1w.nii.gz {options} {ending}", tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "map.nii.gz").read_bytes().startswith(b"\x1f\x8b")


def test_reporter_goes_on_in_silence_after_its_stream_is_closed(tmp_path: Path) -> None:
    stream = (tmp_path / "log").open("w")
    reporter = Reporter(stream=stream)
    stream.close()
    reporter.warn("nobody hears this")
    assert reporter.warnings == ["nobody hears this"]


@pytest.mark.parametrize("shown", [False, True])
def test_what_compiled_libraries_print_is_shown_with_debug_alone(
    shown: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    monkeypatch.setattr(streams, "_shown", shown)
    with streams.mute_libraries():
        os.write(2, b"ITK speaks")
        os.write(1, b"ITK speaks")
    os.write(2, b"heard again")
    out, err = capfd.readouterr()
    assert out == ("ITK speaks" if shown else "")
    assert err == ("ITK speaks" if shown else "") + "heard again"
