"""Worker processes: every job once, not too many ahead, a death costs one job, and none outlives the batch."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import workloads

from uadcli.workers import AHEAD, SPAWN, Died, Workers


@pytest.mark.parametrize("count", [0, 1, 3])
def test_every_job_is_done_once(count: int) -> None:
    assert sorted(Workers(workloads.double, count).run(range(10))) == [(n, 2 * n) for n in range(10)]
    assert not multiprocessing.active_children()


def test_work_is_done_in_workers_or_without_any_in_this_process() -> None:
    elsewhere = {pid for _, pid in Workers(workloads.own_process, 2).run(range(6))}
    assert os.getpid() not in elsewhere
    assert 1 <= len(elsewhere) <= 2
    assert {pid for _, pid in Workers(workloads.own_process, 0).run(range(2))} == {os.getpid()}


def test_a_worker_knows_the_folder_for_temporary_files() -> None:
    """Python finds it by writing a file there, which a signal can leave behind."""
    found = dict(Workers(workloads.temporary_place, 1).run([1]))
    assert found == {1: tempfile.gettempdir()}


def test_a_worker_without_such_a_folder_begins_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [])
    assert dict(Workers(workloads.temporary_place, 1).run([1])) == {1: None}


def test_a_dead_worker_affects_only_its_job() -> None:
    results = dict(Workers(workloads.die_of_three, 2).run(range(8)))
    assert results.pop(3) == Died(-9)
    assert results == {n: n for n in range(8) if n != 3}


def test_the_number_of_scans_in_progress_is_bounded(tmp_path: Path) -> None:
    results = Workers(workloads.started, 1).run([tmp_path] * 10)
    next(results)
    time.sleep(1.0)  # time enough for all ten, if nothing held them back
    assert len(list(tmp_path.iterdir())) <= AHEAD
    assert len(list(results)) == 9
    assert len(list(tmp_path.iterdir())) == 10


def test_closing_stops_running_work(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    results = Workers(workloads.forever_but_in_other, 2).run([other, tmp_path])
    next(results)
    while not (tmp_path / "began").exists():
        time.sleep(0.02)
    results.close()  # type: ignore[attr-defined]
    assert (tmp_path / "unwound").exists()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_ends_with_its_parent(number: signal.Signals, tmp_path: Path) -> None:
    """Even in the middle of a job, and although a killed parent cannot close anything."""
    parent = SPAWN.Process(target=workloads.forever_with_child, args=(tmp_path,))
    parent.start()
    _until((tmp_path / "began").exists)
    assert parent.pid is not None
    os.kill(parent.pid, number)
    parent.join()
    _until((tmp_path / "unwound").exists)


def _until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_what_cannot_be_sent_is_an_error_not_a_hang() -> None:
    with pytest.raises(TypeError, match="not to be sent"):
        list(Workers(workloads.double, 1).run([workloads.Unpicklable()]))  # type: ignore[list-item]


def test_memory_stays_flat_over_200_results() -> None:
    here, there = [], []
    for _, result in Workers(workloads.megabytes, 1).run(range(200)):
        assert not isinstance(result, Died)
        there.append(result[1])
        del result
        here.append(workloads.resident_mb())
    assert here[-1] < 1.05 * here[20]
    assert there[-1] < 1.05 * there[20]


ENDS = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count()))  # what is registered first runs last
{}
"""
OF_UAD = 'from uadcli.__main__ import main; sys.argv = ["uad", "--version"]; sys.exit(main())'
OF_A_WORKER = """
from uadcli import workers
far, near = workers.multiprocessing.Pipe()
far.close()
workers._end_with_parent = print
workers._serve(near, print, None)
"""


@pytest.mark.parametrize("program", [OF_UAD, OF_A_WORKER], ids=["uad", "worker"])
def test_no_process_looks_for_cycles_at_its_end(program: str) -> None:
    """Among what torch imports it would take half a second."""
    done = subprocess.run([sys.executable, "-c", ENDS.format(program)], capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) > 1000
