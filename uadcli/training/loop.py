"""The training loop: logging, checkpoints, and how it ends."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.console import Reporter
from uadcli.report.training import Row
from uadcli.running.stage import duration
from uadcli.training import checkpoint
from uadcli.training.learner import Learner, NotFiniteError
from uadcli.training.log import Log


@dataclass(frozen=True)
class Validation:
    """The figures of a network on held-out scans: error on healthy slices, AUPRC on synthetic or labelled lesions."""

    error: float | None = None
    auprc: float | None = None

    def in_words(self) -> str:
        """The figures as text."""
        parts = [f"validation {self.error:.4f}"] if self.error is not None else []
        return ", ".join([*parts, f"AUPRC {self.auprc:.3f}"] if self.auprc is not None else parts) or "not validated"


class Interruption:
    """Whether Ctrl-C or SIGTERM was received; `received` is the signal's number."""

    received: int | None = None

    def __bool__(self) -> bool:
        return self.received is not None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Record the first Ctrl-C or SIGTERM, so that the current step can end; a second one acts immediately.

    Ignored signals stay ignored. Outside the main thread, where Python handles no signals, this has no effect.
    """
    stop = Interruption()
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: Any) -> None:
        stop.received = number
        restore()

    if threading.current_thread() is threading.main_thread():
        before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
        before = {n: handler for n, handler in before.items() if handler not in (None, signal.SIG_IGN)}
        for number in before:
            signal.signal(number, note)
    try:
        yield stop
    finally:
        restore()


@dataclass(frozen=True)
class Stage:
    """One training of a run: its title on the page, what is trained, its folder, a step, and its validation.

    `step` returns the loss, or None if it was interrupted before it began; `sheet` draws the same slices each time.
    """

    name: str
    trainer: Learner
    folder: Path
    step: Callable[[Interruption], float | None]
    validate: Callable[[], Validation]
    sheet: Callable[[], NDArray[np.uint8]] | None = None


def run(stage: Stage, reporter: Reporter, *, to_beat: bool = False) -> None:
    """Train up to `steps`; every `checkpoint_every` steps and at the end, validate, save and write the log.

    With `to_beat` the initial network is validated as well, and stays the best if no later one is better. After Ctrl-C
    or SIGTERM the current step ends, a checkpoint is written, and the signal is raised again. Ten bad steps in a row
    end the run with a checkpoint from before them. Raises `UadError`.
    """
    trainer, folder = stage.trainer, stage.folder
    config, log = trainer.config, Log(folder, stage.name) if trainer.rank == 0 else None
    with interruptible() as stop:
        losses: list[float] = []
        found = Validation()
        if to_beat and not trainer.done and trainer.best is None:
            found = stage.validate()
            _keep(trainer, found, folder)
            reporter.info(f"before the first step: {found.in_words()}")
        start, first = time.perf_counter(), trainer.done
        while trainer.done < config.steps and not trainer.somewhere(bool(stop)):
            try:
                loss = stage.step(stop)
            except NotFiniteError:
                trainer.bad_steps = 0  # the parameters are those from before the bad steps
                trainer.save(folder / checkpoint.LAST)
                raise
            if loss is None:
                continue
            losses.append(loss)
            due = trainer.done % config.checkpoint_every == 0 or trainer.done == config.steps
            if due:
                found = stage.validate()
            row = _row(trainer, losses, found, time.perf_counter() - start)
            reporter.progress(trainer.done - first, config.steps - first)
            reporter.note(in_words(row))
            if due:
                if log:
                    log.write(row, stage.sheet() if stage.sheet else None)
                    reporter.info(in_words(row))
                _keep(trainer, found, folder)
                if log:
                    log.page()
                losses, start = [], time.perf_counter()
        if trainer.somewhere(bool(stop)):
            trainer.save(folder / checkpoint.LAST)
            reporter.info(f"stopped after step {trainer.done}; a checkpoint was written")
        elif log:
            log.page()  # a run that ended between its last checkpoint and the page has no step left
    if stop.received is not None:
        signal.raise_signal(stop.received)


def _keep(trainer: Learner, found: Validation, folder: Path) -> None:
    """Save as `best` if the AUPRC is the highest so far, and as `last`.

    `last` comes last of all files of a step: a run that was killed before it takes the step again and writes all anew.
    Only the page comes after it, which is made from the others, and could take the space of a disk that is nearly full.
    """
    auprc = None if found.auprc is None else trainer.over_all(found.auprc)  # so that all processes agree
    better = auprc is not None and (trainer.best is None or auprc > trainer.best)
    if better:
        trainer.best = auprc
    for name in (checkpoint.BEST, checkpoint.LAST) if better else (checkpoint.LAST,):
        trainer.save(folder / name)


def _row(trainer: Learner, losses: Sequence[float], found: Validation, seconds: float) -> Row:
    """A row of the log, `seconds` after the first of the losses; the time includes validation."""
    config, pace = trainer.config, seconds / len(losses)
    return {
        "step": trainer.done,
        "loss": mean(losses),
        "validation": found.error,
        "auprc": found.auprc,
        "slices_per_s": config.batch_size / pace,
        "seconds_left": (config.steps - trainer.done) * pace,
        "skipped": trainer.skipped,
    }


def mean(losses: Sequence[float]) -> float | None:
    """The mean of the finite losses; None if there is none."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    return sum(finite) / len(finite) if finite else None


def in_words(row: Row) -> str:
    """A row of the log as text."""
    loss, validation = row["loss"], row["validation"]
    parts = [f"step {row['step']}: loss " + ("not finite" if loss is None else f"{loss:.4f}")]
    parts += [f"validation {validation:.4f}"] if validation is not None else []
    parts += [f"AUPRC {row['auprc']:.3f}"] if row["auprc"] is not None else []
    parts += [f"{row['slices_per_s']:.1f} slices/s", f"{duration(row['seconds_left'] or 0)} left"]
    parts += [f"{row['skipped']} steps skipped"] if row["skipped"] else []
    return ", ".join(parts)
