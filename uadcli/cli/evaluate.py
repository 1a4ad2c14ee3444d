"""`uad evaluate`: compare anomaly maps with lesion masks."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from uadcli.cli import options as o
from uadcli.cli.grouped import grouped
from uadcli.console import print_result
from uadcli.evaluation.options import EvaluateOptions
from uadcli.settings.option import INPUT, OUTPUT, Option, option

Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="MAPS... TRUTH",
        help="Folders or files of maps, then of ground truth; or one TSV table with columns map and truth.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Places:
    """The paths of ground truth and result, and what is printed."""

    truth: Path | None = option(
        None, Option("The ground truth; all other paths are then methods.", INPUT, metavar="PATH")
    )
    output: Path = option(
        Path("evaluation"), Option("Folder for tables and page.", OUTPUT, ("--output", "-o"), metavar="FOLDER")
    )
    as_json: bool = option(False, Option("Print evaluation.json instead of the folder's path.", OUTPUT, ("--json",)))


@grouped()
def evaluate(paths: Paths, places: Places, options: EvaluateOptions, talk: o.RecordedTalk) -> None:
    """Compare anomaly maps with lesion masks: tables, intervals over subjects and a page.

    With several folders of maps and --truth, the methods are compared with one another. For research only.
    """
    with talk.reporter() as reporter:
        from uadcli.evaluation import evaluate as run

        chosen = replace(options, command=talk.command)
        result = run.evaluate(paths, places.truth, places.output, options=chosen, reporter=reporter)
    print_result(json.dumps(result.content, indent=2) if places.as_json else os.fsencode(places.output))
