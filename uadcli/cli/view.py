"""`uad view`: a map in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uadcli import console
from uadcli.cli import options as o
from uadcli.cli.grouped import grouped


@grouped(o.Debug)
def view(
    map_path: Annotated[Path, typer.Argument(metavar="MAP", help="The map that `uad detect` wrote.")],
    scan: Annotated[Path | None, typer.Option("--scan", metavar="FILE", help="Show the map over this scan.")] = None,
    width: Annotated[
        int | None, typer.Option("--width", min=40, metavar="N", help="Columns.", show_default="the terminal's")
    ] = None,
) -> None:
    """Show a map in the terminal: three planes through its highest score.

    Only the brain is shown. For research only, not for diagnosis.
    """
    from uadcli import view as run

    heading, pixels = run.view(map_path, scan, width or console.columns(), console.Reporter().warn)
    console.print_picture(heading, pixels.tolist())
