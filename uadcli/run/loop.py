"""The loop around the steps of a training: when it logs, when it saves, and how it ends."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uadcli.console import Reporter
from uadcli.run import checkpoint
from uadcli.run.learner import Learner, NotFiniteError

COLUMNS = ("step", "loss", "validation", "slices_per_s", "seconds_left", "skipped")


class Interruption:
    """Whether Ctrl-C or SIGTERM came; `received` is the signal's number."""

    received: int | None = None

    def __bool__(self) -> bool:
        return self.received is not None


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Within it the first Ctrl-C or SIGTERM is only noted, so that the step at hand can end; a second one acts at once.

    A signal that is ignored stays so. Outside the main thread, where Python handles no signals, nothing changes.
    """
    stop, before = Interruption(), {}

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


def run(
    trainer: Learner,
    step: Callable[[Interruption], float | None],
    validate: Callable[[], float | None],
    folder: Path,
    reporter: Reporter,
) -> None:
    """Take steps up to `steps`; every `checkpoint_every` of them, and at the end, save, validate and write the log.

    `step` returns the loss, or None if it was interrupted before it began. After Ctrl-C or SIGTERM the step at hand
    ends, a checkpoint is written, and the signal takes its course. Ten bad steps in a row end the run with a
    checkpoint of the network before them. Raises `UadError`.
    """
    config, log = trainer.config, Log(folder / "log.csv")
    with interruptible() as stop:
        losses: list[float] = []
        start = time.perf_counter()
        while trainer.done < config.steps and not stop:
            try:
                loss = step(stop)
            except NotFiniteError:
                trainer.bad_steps = 0  # the parameters are those before the bad steps
                trainer.save(folder / checkpoint.LAST)
                raise
            if loss is None:
                continue
            losses.append(loss)
            if trainer.done % config.checkpoint_every == 0 or trainer.done == config.steps:
                trainer.save(folder / checkpoint.LAST)
                pace = (time.perf_counter() - start) / len(losses)
                left = (config.steps - trainer.done) * pace
                row = (trainer.done, mean(losses), validate(), config.batch_size / pace, left, trainer.skipped)
                log.write(row)
                reporter.info(in_words(row))
                losses, start = [], time.perf_counter()
        if stop:
            trainer.save(folder / checkpoint.LAST)
            reporter.info(f"stopped after step {trainer.done}; a checkpoint is written")
    if stop.received is not None:
        signal.raise_signal(stop.received)


def mean(losses: Sequence[float]) -> float | None:
    """The mean of the finite losses; None if there is none."""
    finite = [loss for loss in losses if math.isfinite(loss)]
    return sum(finite) / len(finite) if finite else None


def in_words(row: Sequence[float | None]) -> str:
    """A row of the log for people."""
    from uadcli.console import duration

    step, loss, validation, pace, left, skipped = row
    parts = [f"step {step}: loss {_number(loss)}"]
    parts += [f"validation {_number(validation)}"] if validation is not None else []
    parts += [f"{pace:.1f} slices/s", f"{duration(left or 0)} left"]
    parts += [f"{skipped} steps skipped"] if skipped else []
    return ", ".join(parts)


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"


class Log:
    """`log.csv`: a line for each stop on the way; a number that is not known is empty."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        head = ",".join(COLUMNS)
        if path.exists() and path.read_text(encoding="utf-8").split("\n", 1)[0] != head:
            path.replace(path.with_name("log-before.csv"))  # of an earlier version, with other columns
        if not path.exists():
            path.write_text(head + "\n", encoding="utf-8")

    def write(self, row: Sequence[float | None]) -> None:
        """Add a line; floats with five digits."""
        cells = ("" if v is None else f"{v:.5g}" if isinstance(v, float) else str(v) for v in row)
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(",".join(cells) + "\n")
