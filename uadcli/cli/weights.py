"""`uad weights`: bundled models, cached ones, and those on the Hub."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from uadcli.cli import options as o
from uadcli.cli.grouped import grouped
from uadcli.console import print_result
from uadcli.settings.option import OUTPUT, OVERWRITE

app = typer.Typer(help="List, download, verify, import and publish models.")

Name = Annotated[str, typer.Argument(metavar="NAME|HF", help="A name, or hf://owner/repo[@commit|branch|tag].")]
OneOrDefaults = Annotated[
    str | None, typer.Argument(metavar="NAME|PATH|HF", help="Which model.", show_default="all bundled ones")
]
Several = Annotated[
    list[str] | None, typer.Argument(metavar="NAME|PATH|HF...", help="Which models.", show_default="all local ones")
]
Exported = Annotated[Path, typer.Argument(metavar="PATH", help="A weight file, or a folder made by `uad export`.")]
Repo = Annotated[str, typer.Argument(metavar="OWNER/REPO", help="The repository; created if it does not exist.")]
Folder = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Also copy it here, for --weights or import.")
]
Private = Annotated[bool, typer.Option("--private", help="Make a new repository private.")]
Message = Annotated[str | None, typer.Option("--message", metavar="TEXT", help="Commit message.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", rich_help_panel=OUTPUT, help=OVERWRITE.help)]
AsJson = Annotated[bool, typer.Option("--json", help="Print as JSON.")]


@app.command("list")
@grouped(o.Debug)
def list_models(as_json: AsJson = False) -> None:
    """List bundled and cached models."""
    from uadcli.weights import manage

    rows = manage.listing()
    print_result(json.dumps(rows, indent=2) if as_json else manage.listing_in_words(rows))


@app.command()
@grouped(o.Network, o.Debug)
def show(name: OneOrDefaults = None, as_json: AsJson = False) -> None:
    """Print a model's card, or without a name those of all bundled models (with --json as a list)."""
    from uadcli.weights import manage

    shown = [manage.show(one) for one in ([name] if name else manage.defaults())]
    if as_json:
        print_result(json.dumps(shown[0] if name else shown, indent=2))
    else:
        print_result("\n\n".join(manage.show_in_words(one) for one in shown))


@app.command()
@grouped(o.Network)
def download(
    name: Name,
    talk: o.Talk,
    output: Folder = None,
    overwrite: Overwrite = False,
) -> None:
    """Download a model into the cache, verify it, and print its path."""
    with talk.reporter() as reporter:
        from uadcli.weights import manage

        print_result(os.fsencode(manage.download(name, output, overwrite, reporter)))


@app.command()
@grouped(o.Debug)
def verify(names: Several = None, as_json: AsJson = False) -> None:
    """Compare models with the registry (sha256); removes damaged ones from the cache."""
    from uadcli.weights import manage

    rows = manage.verify(names or [])
    in_words = "\n".join(f"{row['name']}  {row['fault'] or 'verified'}" for row in rows)
    print_result(json.dumps(rows, indent=2) if as_json else in_words)
    manage.refuse_faults(rows)


@app.command("import")
@grouped()
def import_model(path: Exported, talk: o.Talk, overwrite: Overwrite = False) -> None:
    """Copy a model into the cache, and print its name for --weights."""
    with talk.reporter() as reporter:
        from uadcli.weights import manage

        print_result(manage.import_model(path, overwrite, reporter))


@app.command()
@grouped(o.Debug)
def path(name: OneOrDefaults = None) -> None:
    """Print the path of a model's file; downloads nothing."""
    from uadcli.weights import manage

    for one in [name] if name else manage.defaults():
        print_result(os.fsencode(manage.path_of(one)))


@app.command()
@grouped(o.Network)
def push(
    folder: Exported,
    repo: Repo,
    talk: o.Talk,
    private: Private = False,
    message: Message = None,
) -> None:
    """Publish a model with card and manifest on the Hub, and print its hf:// reference."""
    with talk.reporter() as reporter:
        from uadcli.weights import manage

        print_result(manage.push(folder, repo, private, message, reporter))
