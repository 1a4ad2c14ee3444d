"""Detections and batches that are killed at random moments: whole files or none, the right code, the same bytes again.

`make soak` does UAD_SOAK kills; in `make test` it is a share. What is slow is replaced by a stand-in that takes
milliseconds, and processes are forked, so that the moments fall into the writing and moving of files. A kill is its
number: to look at one, `UAD_SOAK_FIRST=123 UAD_SOAK=1`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from stand import Stand, files_below

from uadcli.cli.app import main
from uadcli.report import sidecar

KILLS = int(os.environ.get("UAD_SOAK", "200"))
FIRST = int(os.environ.get("UAD_SOAK_FIRST", "0"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
BEYOND = 1.1  # times an undisturbed run: some signals come too late

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"), pytest.mark.xdist_group("soak")]


class SlowStand(Stand):
    """The stand-in, with pauses in which a signal finds it."""

    def finish(self, *given: Any, **more: Any) -> Any:
        time.sleep(0.01)
        result = super().finish(*given, **more)
        time.sleep(0.005)
        return result


def killed(arguments: list[str], seconds: float, number: signal.Signals | None) -> int:
    """Run `uad` in a process of its own, send a signal, if any, after a while; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # as `uadcli.__main__` has it
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in (1, 2):
                os.dup2(nowhere, stream)
            sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
            code = main(arguments)
        finally:
            os._exit(code)
    if number is not None:
        time.sleep(seconds)
        os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def complete(out: Path) -> list[Path]:
    """The maps that a sidecar vouches for; every one of its files is there."""
    found = []
    for path in out.rglob("[!.]*.json"):
        if path.parent.name.startswith("."):  # on its way
            continue
        content = json.loads(path.read_text())  # a partial file would not parse
        assert sidecar.is_complete(content)
        names = content["outputs"].values()
        assert all((path.parent / name).exists() for name in names)
        found.append(path)
    return found


def check_end(code: int, number: signal.Signals, out: Path, moment: str) -> None:
    """What must hold after a process is gone by a signal, or got to its end before it."""
    complete(out)
    if number == signal.SIGKILL:
        assert code in (0, -signal.SIGKILL), moment
        return
    assert code in (0, CODES[number], -number), moment  # the last: before `main` could listen, or after its end
    if code >= 0:
        left = [p.name for p in out.rglob("*") if p.name.startswith(".")] if out.exists() else []
        assert not left, (moment, left)


@pytest.mark.parametrize("command", ["detect", "batch"])
def test_killed_at_random_moments(command: str, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SlowStand(monkeypatch)
    given = scans / "a.nii" if command == "detect" else scans
    more = ["--workers", "0"] if command == "batch" else []

    def arguments(out: Path) -> list[str]:
        target = out / "map.nii.gz" if command == "detect" else out
        return [command, str(given), "-o", str(target), *more, "--device", "cpu", "--threads", "1", "--quiet"]

    assert main([*arguments(tmp_path / "right" / "out")]) == 0
    right = files_below(tmp_path / "right" / "out")
    codes, began = set(), time.monotonic()
    assert killed(arguments(tmp_path / "timed" / "out"), 0.0, None) == 0
    longest = BEYOND * (time.monotonic() - began)
    for kill in range(FIRST, FIRST + KILLS // 2):
        rng, out = random.Random(kill), tmp_path / f"{kill}" / "out"
        number, seconds = SIGNALS[kill % 3], rng.uniform(0, longest)
        code = killed(arguments(out), seconds, number)
        codes.add(code)
        check_end(code, number, out, f"kill {kill}: {command} ended with {code} by {number.name} at {seconds:.3f} s")
        done = command == "detect" and bool(complete(out))
        assert main(arguments(out)) == (6 if done else 0), kill  # without --overwrite what is done is kept
        found = files_below(out)
        assert set(found) == set(right), kill
        assert {n: c for n, c in found.items() if not n.endswith((".json", ".tsv"))} == {
            n: c for n, c in right.items() if not n.endswith((".json", ".tsv"))
        }
        shutil.rmtree(tmp_path / f"{kill}")
    if KILLS >= 200:
        assert {-signal.SIGKILL, 130, 143} <= codes  # the signals did meet it at work
