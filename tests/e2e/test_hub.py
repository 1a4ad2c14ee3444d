"""Weights from the Hub as processes get them: offline, many at once, killed in the middle, on a read-only disk."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hub import Hub

from uadcli.weights import weights

UAD = [sys.executable, "-m", "uadcli"]
RUN = "\nfrom uadcli.cli.app import main\nsys.exit(main(sys.argv[1:]))\n"
NO_SOCKETS = (
    """
import os, sys
def forbid(event, arguments):
    if event in ("socket.__new__", "socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"):
        os.write(2, event.encode())
        os._exit(99)
sys.addaudithook(forbid)
"""
    + RUN
)
READ_ONLY_CACHE = (
    """
import os, sys
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def forbid(event, arguments):
    writes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir") or (event == "open" and arguments[2] & WRITING)
    if writes and str(arguments[0]).startswith(os.environ["UAD_CACHE"]):
        raise OSError(30, "Read-only file system")
sys.addaudithook(forbid)
"""
    + RUN
)
FILES = {"tiny 1.safetensors", "tiny 1.md", "registry.toml"}


def guarded(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def until(happens: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.05)


def stored(cache: Path) -> set[str]:
    return {p.name for p in cache.rglob("*") if p.is_file() and p.name != ".lock"}


def test_the_guard_sees_a_socket(published: str) -> None:
    done = guarded(NO_SOCKETS, "weights", "download", published)
    assert done.returncode == 99
    assert "socket" in done.stderr


@pytest.mark.slow
def test_offline_opens_no_socket_with_a_warm_cache(
    published: str, hub: Hub, cache: Path, example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = weights.find(published)[1]
    hub.requests.clear()
    for arguments in (["download", published, "--offline"], ["show", "tiny 1"], ["list"], ["verify"]):
        done = guarded(NO_SOCKETS, "weights", *arguments)
        assert done.returncode == 0, done.stderr
    target = tmp_path / "map.nii.gz"
    options = ["--strip", "none", "--threads", 1, "-q"]  # the quickest: this is about the weights
    done = guarded(NO_SOCKETS, "detect", example, "-o", target, "--weights", published, "--offline", *options)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "map.json").read_text())["weights"]
    assert (told["name"], told["sha256"], told["origin"]) == ("tiny 1", sha256, published)
    assert hub.requests == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--offline", "HF_HUB_OFFLINE"])
def test_offline_opens_no_socket_with_a_cold_cache(
    how: str, published: str, hub: Hub, cache: Path, example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["--offline"] if how == "--offline" else []
    monkeypatch.setenv("HF_HUB_OFFLINE", "0" if more else "1")
    hub.requests.clear()
    for arguments in (
        ["weights", "download", published],
        ["detect", example, "-o", tmp_path / "m.nii.gz", "--weights", published],
        ["batch", example, "-o", tmp_path / "out", "--weights", published],
    ):
        done = guarded(NO_SOCKETS, *arguments, *more)
        assert done.returncode == 4, done.stderr
        assert done.stderr.splitlines()[-1].endswith(f"uad weights download {published}")
        assert done.stdout == ""
    assert hub.requests == []
    assert stored(cache) == set()
    assert not list(tmp_path.glob("*.nii.gz"))


@pytest.mark.slow
def test_ten_cold_starts_fetch_once(published: str, hub: Hub, cache: Path, tmp_path: Path) -> None:
    hub.stalled.add("tiny 1.safetensors")
    logs = [(tmp_path / f"{n}.log").open("w+") for n in range(10)]
    started = [
        subprocess.Popen([*UAD, "weights", "download", published], stdout=subprocess.PIPE, stderr=log, text=True)
        for log in logs
    ]
    waiting = [tmp_path / f"{n}.log" for n in range(10)]
    until(lambda: sum("waiting for it" in log.read_text() for log in waiting) == 9)
    hub.resume.set()
    outputs = {process.communicate(timeout=120)[0] for process in started}
    assert [process.returncode for process in started] == [0] * 10
    assert outputs == {f"{weights.find(published)[0]}\n"}
    assert hub.fetched("tiny 1.safetensors") == 1
    assert stored(cache) == FILES
    for log in logs:
        log.close()


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_download_continues(kill: signal.Signals, published: str, hub: Hub, cache: Path) -> None:
    name = "tiny 1.safetensors"
    hub.stalled.add(name)
    command = [*UAD, "weights", "download", published]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0)
    assert hub.half_sent.wait(120)
    size = len(hub.commits["lab/tiny"][published.split("@")[1]][name])
    until(lambda: any(path.stat().st_size == size // 2 for path in cache.rglob(f".partial/{name}")))
    process.send_signal(kill)
    if kill == signal.SIGKILL:
        assert process.wait(60) == -signal.SIGKILL
    hub.stalled.clear()
    hub.resume.set()
    if kill != signal.SIGKILL:
        assert process.wait(60) == {signal.SIGTERM: 143, signal.SIGINT: 130}[kill]
    assert stored(cache) == {name, "registry.toml"}
    place = cache / "hub/lab/tiny" / published.split("@")[1]
    assert {path.name for path in place.iterdir()} == {".lock", ".partial"}
    hub.starts.clear()
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert [start for file, start in hub.starts if file == name] == [0, size // 2]  # for its size, then for the rest
    weights.load(*weights.find(published))
    assert stored(cache) == FILES


def test_a_read_only_cache_is_read_and_else_said(published: str, cache: Path) -> None:
    done = guarded(READ_ONLY_CACHE, "weights", "download", published)
    assert done.returncode == 6
    assert "Read-only file system" in done.stderr
    assert "UAD_CACHE" in done.stderr
    path, _ = weights.find(published)
    for lock in cache.rglob(".lock"):
        lock.unlink()
    for arguments in (["download", published], ["verify", published], ["path", "tiny 1"]):
        done = guarded(READ_ONLY_CACHE, "weights", *arguments)
        assert done.returncode == 0, done.stderr
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    done = guarded(READ_ONLY_CACHE, "weights", "verify", published)
    assert done.returncode == 4
    assert "cannot be removed" in done.stdout


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_one_line(published: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:  # bound, and never listening: every connection is refused
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{taken.getsockname()[1]}")
        running = [
            subprocess.Popen(
                [*UAD, "weights", "download", text], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
            )
            for text in (published, "hf://lab/tiny")
        ]
        for process in running:
            _, err = process.communicate(timeout=120)
            assert process.returncode == 4
            assert "cannot be reached" in err.splitlines()[-1]
            assert "Traceback" not in err
