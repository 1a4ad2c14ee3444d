"""Messages of a running command: stages, warnings and a log file (the only importer of rich).

On a terminal each stage is a moving line with the time left; otherwise, or with NO_COLOR, a plain line when it is done
and one a minute until then.
In the library nothing is printed; messages go to the logger `uadcli`.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from uadcli import streams
from uadcli.errors import OutputError, UadError
from uadcli.running import heartbeat, interrupt
from uadcli.running.stage import Stage, duration

GREYS = " .:-=+*#%@"  # from dark to light, for a picture without colours


LOGGER = logging.getLogger("uadcli")


class Reporter:
    """Reports on one command, and records `seconds` per stage and `warnings` for the sidecar.

    `verbosity` is -1 (only warnings and errors), 0, or 1 (also details). With `silent`, messages are not printed but go
    to the logger `uadcli`. `failed_stage` is the stage in which an error was raised, otherwise empty.

    As a context manager it writes the traceback of an error to the log file, and closes it.
    """

    def __init__(
        self,
        *,
        silent: bool = False,
        verbosity: int = 0,
        log_file: Path | None = None,
        stream: TextIO | None = None,
    ) -> None:
        self.silent, self.verbosity = silent, verbosity
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self.failed_stage = ""
        self._stream = stream or sys.stderr
        self._log = _open_log(log_file) if log_file else None
        self._current: Stage | None = None
        self._showwarning = warnings.showwarning

    @property
    def live(self) -> bool:
        """Whether to use moving lines and colours."""
        plain = self.silent or self.verbosity < 0 or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        return not plain and not self._stream.closed and self._stream.isatty()

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Time a stage and show it, or only time it within another. Raises `Interrupted` if a signal was received."""
        interrupt.check()
        stage = Stage(name)
        outer, self._current = self._current, stage
        try:
            if outer is None and not self.silent:
                line = self._moving_line(stage) if self.live else nullcontext()
                with line, heartbeat.beating(lambda: self._say_progress(name), heartbeat.SECONDS):
                    yield stage
            else:
                stage.changed = outer.changed if outer else stage.changed
                yield stage
        except BaseException:
            self.failed_stage = self.failed_stage or name  # the innermost stage comes first
            raise
        finally:
            self._current = outer
            if outer is not None:
                outer.changed()
        self.seconds[name] = self.seconds.get(name, 0.0) + stage.elapsed
        if outer is None:
            self._tell("INFO", f"{name}  {stage.elapsed:.1f} s", level=0)
        else:
            self._write_log("DEBUG", f"{name}  {stage.elapsed:.1f} s")

    def _say_progress(self, name: str) -> None:
        """A line on the stage `name` in the log, and where no line moves also for the user."""
        now = self._current
        inner = f"{now.name}, " if now and now.name != name else ""
        text = f"{name}: {inner}{now.in_words() if now else ''}"
        if self.live:
            self._write_log("INFO", text)
        else:
            self._tell("INFO", text, level=0)

    def progress(self, done: int, total: int) -> None:
        """Report that `done` of `total` steps of the running stage are finished."""
        if self._current is not None:
            self._current.update(done, total)

    def note(self, text: str) -> None:
        """Show a text at the end of the moving line of the current stage, if there is one."""
        if self._current is not None:
            self._current.remark(text)

    def debug(self, text: str) -> None:
        """Report a detail, shown with --verbose."""
        self._tell("DEBUG", text, level=1)

    def info(self, text: str) -> None:
        """Report a fact of interest, hidden by --quiet."""
        self._tell("INFO", text, level=0)

    def warn(self, text: str) -> None:
        """Report a problem that does not stop the run."""
        self.warnings.append(text)
        self._tell("WARNING", text, level=-1)

    def error(self, text: str) -> None:
        """Report why the command stops, in one line."""
        self._tell("ERROR", text, level=-1)

    def trace(self, error: BaseException) -> None:
        """Print the traceback of an error."""
        self._write_line("".join(traceback.format_exception(error)).rstrip())

    def __enter__(self) -> Reporter:
        warnings.showwarning = self._python_warning
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        warnings.showwarning = self._showwarning
        if error is not None:
            self._write_log("ERROR", "".join(traceback.format_exception(error)))
        if self._log is not None:
            self._log.close()
            self._log = None

    def _python_warning(self, message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        self.debug(f"{category.__name__}: {message}")

    def _tell(self, kind: str, text: str, level: int) -> None:
        self._write_log(kind, text)
        if self.silent:
            # handlers encode as UTF-8, which names that are not UTF-8 do not survive
            readable = text.encode("utf-8", "backslashreplace").decode("utf-8")
            LOGGER.log(logging.getLevelNamesMapping()[kind], "%s", readable)
        if self.silent or self.verbosity < level:
            return
        line = f"{kind.lower()}: {text}" if kind in ("WARNING", "ERROR") else text
        if self.live:
            from rich.text import Text

            style = {"WARNING": "yellow", "ERROR": "bold red", "DEBUG": "dim"}.get(kind, "")
            self._rich_console().print(Text(line, style=style), soft_wrap=True)
        else:
            self._write_line(line)

    def _write_line(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # the reader is gone or the stream is closed: continue silently
            streams.drop(self._stream)
            self.silent = True

    def _write_log(self, kind: str, text: str) -> None:
        if self._log is not None:
            moment = datetime.now().astimezone().isoformat(timespec="seconds")
            try:
                self._log.writelines(f"{moment} {kind} {line}\n" for line in text.rstrip().splitlines())
                self._log.flush()
            except OSError as error:
                place, self._log = self._log.name, None  # its buffered text would fail again
                hint = "Free space there, or leave --log-file out."
                raise OutputError(f"cannot write the log file: {error.strerror}", path=place, hint=hint) from error

    def _rich_console(self) -> Any:
        if not hasattr(self, "_rich"):
            from rich.console import Console

            self._rich = Console(file=self._stream, highlight=False, markup=False, emoji=False)
        return self._rich

    @contextmanager
    def _moving_line(self, stage: Stage) -> Iterator[None]:
        line = self._progress()
        task = line.add_task(stage.name, total=None, note="")

        def show() -> None:
            now = self._current or stage  # perhaps a stage within this one
            name = stage.name if now is stage else f"{stage.name}: {now.name}"
            line.tasks[0].total = now.total or None  # which `update` cannot take back
            line.update(task, description=name, completed=now.done, note=now.note)

        stage.changed = show
        show()
        with line:
            yield

    def _progress(self) -> Any:
        """A progress line: name, bar, elapsed time, and a note or the time left."""
        from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
        from rich.text import Text

        class Time(ProgressColumn):
            def render(self, task: Any) -> Text:
                left = task.time_remaining if task.total else None
                about = task.fields["note"] or ("" if left is None else f"about {duration(left)} left")
                return Text(f"{duration(task.elapsed or 0)} {about}".rstrip())

        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            Time(),
            console=self._rich_console(),
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )


def print_error(error: BaseException, *, debug: bool = False) -> None:
    """Print a fatal error as one line on stderr; with `debug`, its traceback first."""
    if debug:
        Reporter().trace(error)
    if isinstance(error, UadError):
        text = str(error)
    else:
        summary = " ".join(f"{type(error).__name__}: {error}".split())
        text = f"this is a bug, please report it ({summary})" + ("" if debug else "; run again with --debug for more")
    Reporter().error(text)


def print_result(content: str | bytes | Path, end: str = "\n") -> None:
    """Print a result on stdout. If the reader has closed the pipe (`| head -1`), it is dropped without an error.

    Raises `OutputError` if it cannot be printed for another reason.
    """
    raw = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else os.fsencode(content)
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(raw + end.encode())
        sys.stdout.flush()
    except OSError as error:
        streams.drop(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            hint = "What was written to files is complete."
            raise OutputError(f"the result cannot be printed: {error.strerror}", hint=hint) from error


def columns() -> int:
    """The width of the terminal in characters, 80 without one."""
    return shutil.get_terminal_size((80, 24)).columns


def print_picture(heading: str, pixels: Sequence[Sequence[Sequence[int]]]) -> None:
    """Print rows of RGB pixels (0..255, an even number of rows) on stdout, two rows per line of half blocks.

    Without colours (no terminal, NO_COLOR), grey values become characters, also two rows per line.
    """
    from rich.color import Color
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    plain = console.color_system is None or console.no_color
    text = Text(heading + "\n", no_wrap=True, end="")
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            if plain:
                light = (sum(above) + sum(below)) / (6 * 255)
                text.append(GREYS[round(light * (len(GREYS) - 1))])
            else:
                text.append("\u2580", Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        text.append("\n")
    console.print(text, end="", soft_wrap=True)


def _open_log(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(f"cannot write the log file: {error.strerror}", path=path) from error
