"""`uad weights`: the models that come along, those in the cache, and those on the Hub."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from uadcli.cli import options as o
from uadcli.console import print_result

app = typer.Typer(help="List, fetch, check, import and publish models.")

Name = Annotated[str, typer.Argument(metavar="NAME|HF", help="A name, or hf://owner/repo[@commit|branch|tag].")]
OneOrDefaults = Annotated[
    str | None, typer.Argument(metavar="NAME|PATH|HF", help="Which model.", show_default="all that come along")
]
Several = Annotated[
    list[str] | None, typer.Argument(metavar="NAME|PATH|HF...", help="Which models.", show_default="all that are here")
]
Exported = Annotated[Path, typer.Argument(metavar="PATH", help="A weight file, or a folder made by `uad export`.")]
Repo = Annotated[str, typer.Argument(metavar="OWNER/REPO", help="The repository; it is made if it is not there.")]
Folder = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Copy it here too, for --weights or import.")
]
Private = Annotated[bool, typer.Option("--private", help="A repository that is made is private.")]
Message = Annotated[str | None, typer.Option("--message", metavar="TEXT", help="Message of the commit.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@app.command("list")
def list_models(as_json: AsJson = False, debug: o.Debug = False) -> None:
    """List the models that come along and those in the cache."""
    from uadcli.weights import manage

    rows = manage.listing()
    print_result(json.dumps(rows, indent=2) if as_json else manage.listing_in_words(rows))


@app.command()
def show(
    name: OneOrDefaults = None, as_json: AsJson = False, offline: o.Offline = False, debug: o.Debug = False
) -> None:
    """Print a model's card, or with no name those of all that come along (with --json as a list)."""
    from uadcli.weights import manage

    shown = [manage.show(one) for one in ([name] if name else manage.defaults())]
    if as_json:
        print_result(json.dumps(shown[0] if name else shown, indent=2))
    else:
        print_result("\n\n".join(manage.show_in_words(one) for one in shown))


@app.command()
def download(
    ctx: typer.Context,
    name: Name,
    output: Folder = None,
    overwrite: o.Overwrite = False,
    offline: o.Offline = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    log_file: o.LogFile = None,
) -> None:
    """Bring a model into the cache, verified, and print its path."""
    given = locals()
    with o.reporter(given) as reporter:
        from uadcli.weights import manage

        print_result(os.fsencode(manage.download(name, output, overwrite, reporter)))


@app.command()
def verify(names: Several = None, as_json: AsJson = False, debug: o.Debug = False) -> None:
    """Compare the sha256 of models with the registry; remove what is wrong in the cache."""
    from uadcli.weights import manage

    rows = manage.verify(names or [])
    in_words = "\n".join(f"{row['name']}  {row['fault'] or 'verified'}" for row in rows)
    print_result(json.dumps(rows, indent=2) if as_json else in_words)
    manage.refuse_faults(rows)


@app.command("import")
def import_model(
    ctx: typer.Context,
    path: Exported,
    overwrite: o.Overwrite = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    log_file: o.LogFile = None,
) -> None:
    """Copy a model into the cache, and print its name for --weights."""
    given = locals()
    with o.reporter(given) as reporter:
        from uadcli.weights import manage

        print_result(manage.import_model(path, overwrite, reporter))


@app.command()
def path(name: OneOrDefaults = None, debug: o.Debug = False) -> None:
    """Print where a model's file lies on this machine; downloads nothing."""
    from uadcli.weights import manage

    for one in [name] if name else manage.defaults():
        print_result(os.fsencode(manage.path_of(one)))


@app.command()
def push(
    ctx: typer.Context,
    folder: Exported,
    repo: Repo,
    private: Private = False,
    message: Message = None,
    offline: o.Offline = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    log_file: o.LogFile = None,
) -> None:
    """Publish a model with card and manifest on the Hub, and print its hf:// reference."""
    given = locals()
    with o.reporter(given) as reporter:
        from uadcli.weights import manage

        print_result(manage.push(folder, repo, private, message, reporter))
