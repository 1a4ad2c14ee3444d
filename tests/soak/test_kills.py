"""Detections, batches and trainings that are killed at random moments: whole files or none, the right code, the same
bytes again.

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
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from slow import SlowStand, training
from stand import files_below

from uadcli.cli.app import main
from uadcli.report import sidecar
from uadcli.training import checkpoint
from uadcli.training.run_folder import read_run, rows_of

KILLS = int(os.environ.get("UAD_SOAK", "200"))
FIRST = int(os.environ.get("UAD_SOAK_FIRST", "0"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
BEYOND = 1.1  # times an undisturbed run: some signals come too late
TRAININGS = KILLS // (3 if KILLS > 200 else 25)  # each takes as long as twenty detections
TIMED = ("log.csv", "report.html")  # in a run's folder: they say how fast it was

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"), pytest.mark.xdist_group("soak")]


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
    until = time.monotonic() + seconds
    while number is not None and time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.001)
    if number is not None:
        os.kill(child, number)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def undisturbed(arguments: Callable[[Path], list[str]], folder: Path) -> float:
    """Seconds of a run that nobody stops, the shortest of three: a busy machine must not let signals come too late."""
    took = []
    for number in range(3):
        began = time.monotonic()
        assert killed(arguments(folder / f"timed{number}" / "out"), 0.0, None) == 0
        took.append(time.monotonic() - began)
    return min(took)


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
    codes, longest = set(), BEYOND * undisturbed(arguments, tmp_path)
    for kill in range(FIRST, FIRST + (KILLS - TRAININGS) // 2):
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


def run_is_whole(run: Path) -> None:
    """Every file of a run under its final name can be read; a partial one could not."""
    for path in (path for path in run.rglob("[!.]*") if path.is_file()):
        if path.suffix == ".pt":
            checkpoint.read(path)  # with the tensors that it names
        elif path.suffix == ".safetensors":
            load_file(path)
        elif path.name == "config.toml":
            read_run(run)
        elif path.name == "data.tsv":
            assert len(rows_of(path)) == 3
        elif path.suffix == ".npz":
            with np.load(path) as values:
                assert all(values[name].size for name in values.files)
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")
        elif path.suffix == ".png":
            assert path.read_bytes().endswith(b"IEND\xaeB`\x82")
        elif path.name == "log.csv":
            assert path.read_text().startswith("step,loss,")


def left_over(run: Path) -> list[str]:
    """Temporary files in a run's folder."""
    return [path.name for path in run.rglob(".*") if path.name != ".lock"]


def test_a_training_killed_at_random_moments_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = [*training(tmp_path, monkeypatch), "--out"]
    quick = ["--threads", "1", "--gpus", "0", "--quiet"]

    def arguments(run: Path) -> list[str]:
        begun = (run / "config.toml").exists()  # before it is there, there is nothing to resume
        return [*(["train", "--workers", "0", "--resume"] if begun else begin), str(run), *quick]

    right, codes = tmp_path / "right", set()
    assert main(arguments(right)) == 0
    expected = {name: content for name, content in files_below(right).items() if not name.endswith(TIMED)}
    longest = BEYOND * undisturbed(arguments, tmp_path)
    for kill in range(FIRST, FIRST + TRAININGS):
        rng, run = random.Random(kill), tmp_path / f"{kill}"
        number, seconds = SIGNALS[kill % 3], rng.uniform(0, longest)
        code = killed(arguments(run), seconds, number)
        codes.add(code)
        moment = f"kill {kill}: train ended with {code} by {number.name} at {seconds:.3f} s"
        run_is_whole(run)
        allowed = (0, -number) if number == signal.SIGKILL else (0, CODES[number], -number)
        assert code in allowed, moment
        if code >= 0:
            assert not left_over(run), moment
        assert killed(arguments(run), 0.0, None) == 0, moment
        found = files_below(run)
        assert {name for name in found if not name.endswith(TIMED)} == set(expected), moment
        for name, content in expected.items():
            assert found[name] == content, (moment, name)
        shutil.rmtree(run)
    if TRAININGS >= 100:
        assert {-signal.SIGKILL, 130, 143} <= codes
    elif TRAININGS:
        assert codes - {0}  # some did meet it at work
