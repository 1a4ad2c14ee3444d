"""The program `uad`: its commands, and the translation of errors and signals to one line and an exit code."""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from uadcli import __version__, console, streams
from uadcli.cli import options as o
from uadcli.cli.batch import batch
from uadcli.cli.detect import detect
from uadcli.cli.evaluate import evaluate
from uadcli.cli.grouped import grouped
from uadcli.cli.info import cite, config, doctor
from uadcli.cli.page_kind import WithPage
from uadcli.cli.synth import synth
from uadcli.cli.train import calibrate, export, train
from uadcli.cli.view import view
from uadcli.cli.weights import app as weights
from uadcli.console import print_result
from uadcli.errors import UadError, UsageError
from uadcli.running import faults, interrupt

app = typer.Typer(context_settings={"help_option_names": ["--help", "-h"]}, pretty_exceptions_enable=False)


def _print_version(wanted: bool) -> None:
    if wanted:
        print_result(f"uad {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
@grouped()
def uad(
    ctx: typer.Context,
    talk: o.Talk,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find what is unusual in a brain MRI, without labels. For research only, not for diagnosis."""
    invocation: o.Invocation = ctx.ensure_object(o.Invocation)
    invocation.verbose, invocation.quiet, invocation.log_file = talk.verbose, talk.quiet, talk.log_file
    if ctx.invoked_subcommand is None:
        print_result(ctx.get_help())


for command in (detect, batch):
    app.command(cls=WithPage)(command)
for command in (train, calibrate, export, evaluate, synth, view, doctor, config, cite):
    app.command()(command)
app.add_typer(weights, name="weights")


@functools.cache  # whoever calls `main` many times in one process would wait for the commands each time
def _program() -> Any:
    return typer.main.get_command(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `uad` with `arguments` (by default those of the process); returns the exit code."""
    streams.open_missing()
    streams.keep_terminal()
    streams.set_library_text(shown=False)
    typed = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with interrupt.handled():
            return _run(o.Invocation(arguments=typed))
    except interrupt.Interrupted as early:  # or late: before the command began, or after its end
        return _stopped(int(early.code or 0))


def _run(invocation: o.Invocation) -> int:
    """The exit code of a command; errors are printed."""
    try:
        code = _program()(list(invocation.arguments), prog_name="uad", standalone_mode=False, obj=invocation)
    except interrupt.Interrupted:
        pass
    except (Exception, SystemExit) as error:
        if interrupt.received() is None:
            return _ended_by(error, invocation.debug)
    stopped = interrupt.received()  # also if a library swallowed the exception or raised another one
    return int(code or 0) if stopped is None else _stopped(stopped)


def _stopped(code: int) -> int:
    console.print_error(UadError("interrupted" if code == interrupt.INTERRUPTED else "terminated"))
    return code


def _ended_by(error: Exception | SystemExit, debug: bool) -> int:
    """Print an error as one line and return its exit code."""
    if isinstance(error, SystemExit):
        broken = error.__context__  # typer and rich exit when a pipe breaks
        if not isinstance(broken, BrokenPipeError):
            raise error
        if _is_of_help(broken):
            return 0
        error = broken
    known = _translate(error)
    console.print_error(known, debug=debug)
    return known.exit_code if isinstance(known, UadError) else 1


def _is_of_help(broken: BrokenPipeError) -> bool:
    """Whether a pipe broke while Typer printed help or completion (`uad --help | head -1`), not in a command."""
    frames = (frame for frame, _ in traceback.walk_tb(broken.__traceback__))
    return not any(frame.f_globals.get("__name__", "").startswith("uadcli.") for frame in frames)


def _translate(error: Exception) -> Exception:
    """An error of the command line or the system as the matching `UadError`; any other error unchanged."""
    if isinstance(error, TyperException):
        context = getattr(error, "ctx", None)
        place = context.command_path if context else "uad"
        what = error.format_message().rstrip(".")
        return UsageError(f"{what} (see `{place} --help`)")
    return faults.known(error) or error
