"""`uad synth`: a synthetic brain, optionally with lesions at known places."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from uadcli.cli import options as o
from uadcli.cli.grouped import grouped
from uadcli.console import print_result
from uadcli.synthesis.options import SynthOptions


@grouped()
def synth(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A label map with FreeSurfer's numbers or a T1w scan.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The volume to write.")],
    options: SynthOptions,
    talk: o.Talk,
) -> None:
    """Make a healthy brain of any contrast from a label map or a T1w scan, at 2 mm.

    With --lesions it has synthetic lesions, and their mask is written as well. For research only.
    """
    with talk.reporter() as reporter:
        from uadcli.synthesis import synth as run

        made = run.synth(source, output, options, reporter)
    print_result(os.fsencode(made))
