"""Running jobs ahead in spawned processes: results arrive when they are ready, with a bounded number in progress."""

from __future__ import annotations

import atexit
import gc
import multiprocessing
import os
import queue
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Generic, TypeVar

J = TypeVar("J")
R = TypeVar("R")
AHEAD = 2  # jobs per worker: one in progress, one waiting
GRACE_SECONDS = 30.0  # for a stage in C++ to end and remove its temporary folder
TERMINATED = 128 + signal.SIGTERM
SPAWN = multiprocessing.get_context("spawn")  # a forked process would share torch's and CUDA's locks


@dataclass(frozen=True)
class Died:
    """The result of a job whose process died: its exit code (negative: the signal)."""

    exit_code: int | None

    @property
    def killed(self) -> bool:
        """Whether it got SIGKILL, which the system sends if it is out of memory."""
        return self.exit_code == -signal.SIGKILL

    def in_words(self) -> str:
        """How the process ended, and the likely reason."""
        if self.killed:
            return "was killed: out of memory? Lower --workers"
        if self.exit_code in (-signal.SIGTERM, TERMINATED):
            return "was ended by SIGTERM"
        if self.exit_code is not None and self.exit_code < 0:
            return f"crashed by {signal.Signals(-self.exit_code).name}"
        return f"ended with {self.exit_code}"


class Workers(Generic[J, R]):
    """Runs `work` (which is pickled) on jobs in `count` processes, or lazily in this process if `count` is 0."""

    def __init__(self, work: Callable[[J], R], count: int) -> None:
        self.work, self.count = work, count
        self._results: queue.SimpleQueue[tuple[J, R | Died] | BaseException | None] = queue.SimpleQueue()
        self._slots = threading.Semaphore(AHEAD * count)
        self._lock = threading.Lock()
        self._processes: list[SpawnProcess] = []
        self._stopped = False

    def run(self, jobs: Sequence[J]) -> Iterator[tuple[J, R | Died]]:
        """Yield (job, result) in the order of completion; a job is finished when the next one is requested.

        If a process dies, its job fails with `Died` and a new process continues. Closing the iterator ends all
        processes.
        """
        if not self.count:
            yield from ((job, self.work(job)) for job in jobs)
            return
        waiting = iter(jobs)
        threads = [threading.Thread(target=self._feed, args=(waiting,), daemon=True) for _ in range(self.count)]
        for thread in threads:
            thread.start()
        left = len(threads)
        try:
            while left:
                item = self._results.get()
                if item is None:
                    left -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
                    del item  # do not keep it while waiting for the next one
                    self._slots.release()
        finally:
            self._stop(threads, at_once=left > 0)

    def _feed(self, waiting: Iterator[J]) -> None:
        """One thread for each process: hand it jobs, pass on its results."""
        worker: tuple[SpawnProcess, Connection] | None = None
        try:
            while True:
                self._slots.acquire()
                with self._lock:
                    job = None if self._stopped else next(waiting, None)
                if job is None:
                    self._slots.release()  # for the next thread, which then ends too
                    return
                worker = worker or self._start()
                process, pipe = worker
                try:
                    pipe.send(job)
                    self._results.put((job, pipe.recv()))
                except (EOFError, BrokenPipeError, ConnectionResetError):
                    process.join()
                    pipe.close()
                    worker = None
                    self._results.put((job, Died(process.exitcode)))
        except BaseException as error:  # raised again by `run`
            self._results.put(error)
        finally:
            if worker:
                worker[1].close()  # which ends its process
            self._results.put(None)

    def _start(self) -> tuple[SpawnProcess, Connection]:
        mine, theirs = SPAWN.Pipe()
        process = SPAWN.Process(target=_serve, args=(theirs, self.work, _place()), daemon=True)
        with self._lock:
            if self._stopped:
                raise EOFError
            process.start()
            self._processes.append(process)
        theirs.close()  # or the end of the process would not be seen
        return process, mine

    def _stop(self, threads: Sequence[threading.Thread], at_once: bool) -> None:
        with self._lock:
            self._stopped = True
        for _ in threads:
            self._slots.release()
        for process in self._processes:
            if at_once and process.is_alive():
                process.terminate()
        for process in self._processes:
            process.join(GRACE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
        for thread in threads:
            thread.join(GRACE_SECONDS)


def _place() -> str | None:
    """The folder for temporary files; None if there is none, which a worker reports when it needs one."""
    with suppress(OSError):
        return tempfile.gettempdir()
    return None


def _serve(pipe: Connection, work: Callable[[J], R], place: str | None) -> None:
    """The loop of a worker process: receive jobs, send results, until the other end is closed."""
    tempfile.tempdir = place  # otherwise it is found by writing a file there, which a signal can leave behind
    atexit.register(gc.freeze)  # as in `uadcli.__main__`
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides what it means
    signal.signal(signal.SIGTERM, _leave)
    if hasattr(signal, "SIGUSR2"):  # SLURM tells every process of a job that it is to be queued again
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            job = pipe.recv()
        except EOFError:
            return
        result = work(job)
        try:
            pipe.send(result)
        except BrokenPipeError:
            return
        del job, result  # not to be kept while the next job is awaited


def _end_with_parent() -> None:
    """Stop the current job when the parent process is gone, if it was killed and could not say so."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _leave(*_: object) -> None:
    """Unwind, so that temporary folders go."""
    raise SystemExit(TERMINATED)
