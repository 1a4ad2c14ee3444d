"""`uad synth`: a synthetic brain, with lesions of known place if wanted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from uadcli.cli import options as o
from uadcli.console import print_result


def synth(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A label map with FreeSurfer's numbers, or a T1w.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The volume to write.")],
    contrast: o.Contrast = "T1w",
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The same seed gives the same volume.")] = 0,
    lesions: Annotated[bool, typer.Option("--lesions", help="Paste lesions; also writes their mask.")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="No bias field, thick slices, blur or noise.")] = False,
    overwrite: o.Overwrite = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    log_file: o.LogFile = None,
) -> None:
    """Make a healthy brain of any contrast from a label map or a T1w scan, at 2 mm.

    With --lesions it has synthetic lesions, and their mask is written as well. For research only.
    """
    given = locals()
    o.exclusive(given)
    with o.reporter(given) as reporter:
        from uadcli.synthesis import synth as run

        made = run.synth(source, output, o.pick(run.SynthOptions, given), reporter)
    print_result(os.fsencode(made))
