"""`uad evaluate`: maps against lesion masks."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from uadcli.cli import options as o
from uadcli.console import print_result

UNLABELLED = ("refuse", "healthy", "skip")

Paths = Annotated[
    list[Path],
    typer.Argument(
        metavar="MAPS... TRUTH",
        help="Folders or files of maps, then of ground truth; or one TSV table with columns map and truth.",
        show_default=False,
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--truth", rich_help_panel=o.INPUT, metavar="PATH", help="The ground truth; all other paths are then methods."
    ),
]
Masks = Annotated[
    Path | None,
    typer.Option("--masks", rich_help_panel=o.INPUT, metavar="PATH", help="Brain masks; only voxels inside count."),
]
Unlabelled = Annotated[
    str,
    typer.Option(
        "--unlabelled",
        rich_help_panel=o.INPUT,
        callback=o.one_of("--unlabelled", UNLABELLED),
        metavar="|".join(UNLABELLED),
        help="How to treat a map without ground truth: error, healthy scan, or skip.",
    ),
]
ResampleTruth = Annotated[
    bool,
    typer.Option(
        "--resample-truth",
        rich_help_panel=o.INPUT,
        help="Resample ground truth and masks to the map's grid (nearest neighbour).",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        rich_help_panel=o.METHOD,
        metavar="VALUE",
        help="Score above which a voxel is marked.",
        show_default="each map's sidecar",
    ),
]
MinVolume = Annotated[
    float | None,
    typer.Option(
        "--min-volume",
        rich_help_panel=o.METHOD,
        parser=o.cubic_millimetres,
        metavar="MM3",
        help="Smallest component to keep, for example 64 or 64mm3.",
        show_default="each map's sidecar",
    ),
]
Resamples = Annotated[
    int,
    typer.Option("--resamples", rich_help_panel=o.METHOD, min=1, metavar="N", help="Number of bootstrap resamples."),
]
Seed = Annotated[
    int, typer.Option("--seed", rich_help_panel=o.METHOD, min=0, metavar="N", help="Seed of the bootstrap.")
]
Output = Annotated[
    Path,
    typer.Option("--output", "-o", rich_help_panel=o.OUTPUT, metavar="FOLDER", help="Folder for tables and page."),
]
AsJson = Annotated[
    bool, typer.Option("--json", rich_help_panel=o.OUTPUT, help="Print evaluation.json instead of the folder's path.")
]


def evaluate(
    ctx: typer.Context,
    paths: Paths,
    truth: Truth = None,
    masks: Masks = None,
    unlabelled: Unlabelled = "refuse",
    resample_truth: ResampleTruth = False,
    threshold: Threshold = None,
    min_volume_mm3: MinVolume = None,
    resamples: Resamples = 2000,
    seed: Seed = 0,
    output: Output = Path("evaluation"),
    keep_paths: o.KeepPaths = False,
    overwrite: o.Overwrite = False,
    as_json: AsJson = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    log_file: o.LogFile = None,
) -> None:
    """Compare anomaly maps with lesion masks: tables, intervals over subjects and a page.

    With several folders of maps and --truth, the methods are compared with one another. For research only.
    """
    given = locals()
    with o.reporter(given) as reporter:
        from uadcli.evaluation import evaluate as run

        chosen = o.pick(run.EvaluateOptions, given, command=ctx.obj.command(keep_paths))
        result = run.evaluate(paths, truth, output, options=chosen, reporter=reporter)
    print_result(json.dumps(result.content, indent=2) if as_json else os.fsencode(output))
