"""Shared by all commands: messages, the command as typed, settings from a file, and checks across options."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from uadcli import streams
from uadcli.cli.command_line import command_line
from uadcli.config import read_toml
from uadcli.console import Reporter
from uadcli.errors import UsageError
from uadcli.settings.option import METHOD, OUTPUT, RUNNING, TALK, Option, option

if TYPE_CHECKING:
    from uadcli.detection.options import DetectOptions

T = TypeVar("T")
CONFIG = Option("All settings from a file (see `uad config`).", METHOD, metavar="TOML")


@dataclass
class Invocation:
    """The arguments of the command as typed, and the options given before its name."""

    arguments: Sequence[str] = ()
    verbose: bool = False
    quiet: bool = False
    debug: bool = False
    log_file: Path | None = None

    def command(self, keep_paths: bool) -> str:
        """The command for the sidecar, see `command_line`."""
        return command_line(self.arguments, keep_paths)


def _note_debug(ctx: typer.Context, value: bool) -> bool:
    invocation = ctx.find_root().ensure_object(Invocation)
    invocation.debug = invocation.debug or value
    if value:
        streams.set_library_text(shown=True)
    return value


def _note_offline(value: bool) -> bool:
    if value:
        os.environ["HF_HUB_OFFLINE"] = "1"  # inherited by worker processes and respected by every client of the Hub
    return value


DEBUG = Option("Show the traceback of an error.", TALK, callback=_note_debug)


@dataclass(frozen=True)
class Debug:
    """The option of commands that print nothing but their result."""

    debug: bool = option(False, DEBUG)


@dataclass(frozen=True)
class Network:
    """Whether the network may be used."""

    offline: bool = option(
        False, Option("Do not use the network, as with HF_HUB_OFFLINE=1.", RUNNING, callback=_note_offline)
    )


@dataclass(frozen=True)
class Talk:
    """The amount of messages, and the options `before` the name of the command."""

    verbose: bool = option(False, Option("Print more messages.", TALK, ("--verbose", "-v")))
    quiet: bool = option(False, Option("Print only warnings and errors.", TALK, ("--quiet", "-q")))
    debug: bool = option(False, DEBUG)
    log_file: Path | None = option(None, Option("Append all messages and tracebacks to a file.", TALK, metavar="FILE"))
    before: Invocation = field(default_factory=Invocation)

    def reporter(self) -> Reporter:
        """The reporter for the options before and after the name of the command. Raises `UsageError`."""
        verbose, quiet = self.verbose or self.before.verbose, self.quiet or self.before.quiet
        if verbose and quiet:
            raise UsageError("--verbose and --quiet cannot be combined", hint="Leave one of them out.")
        return Reporter(verbosity=int(verbose) - int(quiet), log_file=self.log_file or self.before.log_file)


@dataclass(frozen=True)
class RecordedTalk(Talk):
    """The same for commands that are recorded in a sidecar."""

    keep_paths: bool = option(
        False,
        Option(
            "Keep full paths in the sidecar's command; by default those outside the working folder are shortened.",
            OUTPUT,
        ),
    )

    @property
    def command(self) -> str:
        """The command as it was typed."""
        return self.before.command(self.keep_paths)


def check_together(options: DetectOptions, given: Mapping[str, Any]) -> None:
    """Raises `UsageError` for contradictory options of a detection; `given` are the parameters as typed."""
    if options.brain_mask and given["strip"] not in (None, "auto", "none"):
        raise UsageError("--brain-mask and --strip cannot be combined", hint="The brain mask replaces stripping.")
    options.rule.check_labels(options.labels is not None)
    options.check_further()
    if options.only_map and options.save:
        raise UsageError("--only-map and --save cannot be combined", hint="Leave one of them out.")
    if options.only_map and options.html:
        raise UsageError("--only-map and --html cannot be combined", hint="Leave one of them out.")


def read_config(path: Path, kind: type[T]) -> T:
    """Settings of the class `kind` from a TOML file. Raises `UsageError` with the path."""
    try:
        config: T = read_toml(kind, path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", path=path, hint="`uad config` prints one.") from error
    except UnicodeDecodeError as error:
        raise UsageError("is not text in UTF-8", path=path, hint="`uad config` prints one.") from error
    except UsageError as error:
        raise UsageError(error.what, path=path, hint=error.hint) from error
    return config
