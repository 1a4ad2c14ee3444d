"""`uad batch`: many scans in, their maps out, with the model loaded once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uadcli.cli import options as o
from uadcli.console import print_result
from uadcli.device import yield_cores

Inputs = Annotated[
    list[Path] | None,
    typer.Argument(metavar="IN...", help="Scans, folders, quoted patterns, BIDS datasets.", show_default=False),
]
Output = Annotated[
    Path,
    typer.Option(
        "--output", "-o", rich_help_panel=o.OUTPUT, metavar="FOLDER", help="Folder for all results.", show_default=False
    ),
]
ListFile = Annotated[
    str | None,
    typer.Option("--list", rich_help_panel=o.INPUT, metavar="FILE|-", help="More inputs from a file or stdin."),
]
Nul = Annotated[
    bool, typer.Option("--null", "-0", rich_help_panel=o.INPUT, help="Paths in --list end in NUL instead of a newline.")
]
Contrast = Annotated[
    str | None,
    typer.Option(
        "--contrast",
        rich_help_panel=o.INPUT,
        callback=o.one_of("--contrast", o.CONTRASTS),
        metavar="|".join(o.CONTRASTS),
        help="In a BIDS dataset, only this contrast; otherwise the contrast of all scans.",
    ),
]
ParticipantLabel = Annotated[
    list[str] | None,
    typer.Option(
        "--participant-label",
        rich_help_panel=o.INPUT,
        metavar="LABEL",
        help="In a BIDS dataset, only this one (repeatable).",
    ),
]
Session = Annotated[
    list[str] | None,
    typer.Option(
        "--session", rich_help_panel=o.INPUT, metavar="LABEL", help="In a BIDS dataset, only this one (repeatable)."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", rich_help_panel=o.OUTPUT, help="Redo scans that are done.")]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict",
        rich_help_panel=o.OUTPUT,
        help="Treat a scan as failed if quality control fails or it is unlike the training scans.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", rich_help_panel=o.OUTPUT, help="Print the plan as JSON lines.")]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        rich_help_panel=o.RUNNING,
        min=0,
        metavar="N",
        help="Processes that prepare scans; 0 for none.",
        show_default="from cores and memory",
    ),
]
Shard = Annotated[
    str | None,
    typer.Option(
        "--shard", rich_help_panel=o.RUNNING, metavar="I/N|auto", help="Only this part; auto: the SLURM array task."
    ),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", rich_help_panel=o.RUNNING, help="Only the scans in failed.tsv.")
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        rich_help_panel=o.CLUSTER,
        callback=o.one_of("--cluster", ("slurm", "local", "debug")),
        metavar="slurm|local|debug",
        help="Run as SLURM jobs, as local processes, or in this process (debug).",
    ),
]
Jobs = Annotated[
    int | None, typer.Option("--jobs", rich_help_panel=o.CLUSTER, min=1, metavar="N", help="Number of jobs.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        rich_help_panel=o.CLUSTER,
        metavar="A.B=C",
        help="Job setting, such as slurm.partition=gpu (repeatable).",
    ),
]
Status = Annotated[
    bool, typer.Option("--status", rich_help_panel=o.CLUSTER, help="Only print how many scans are done, as JSON.")
]
Collect = Annotated[
    bool, typer.Option("--collect", rich_help_panel=o.CLUSTER, help="Only write the combined tables of all parts.")
]
FailFast = Annotated[bool, typer.Option("--fail-fast", rich_help_panel=o.RUNNING, help="Stop at the first failure.")]


def batch(
    ctx: typer.Context,
    output: Output,
    paths: Inputs = None,
    list_file: ListFile = None,
    nul: Nul = False,
    contrast: Contrast = None,
    participant_label: ParticipantLabel = None,
    session: Session = None,
    volume: o.VolumeIndex = None,
    geometry: o.Geometry = "auto",
    strip: o.Strip = None,
    weights: o.Weights = None,
    method: o.Method = None,
    adapt: o.Adapt = None,
    score: o.Score = None,
    threshold: o.Threshold = o.AUTO,
    min_volume: o.MinVolume = None,
    seed: o.Seed = None,
    stability: o.Stability = None,
    config: o.ConfigFile = None,
    space: o.Space = "native",
    save: o.Save = "",
    html: o.Html = False,
    keep_paths: o.KeepPaths = False,
    overwrite: Overwrite = False,
    strict: Strict = False,
    dry_run: DryRun = False,
    workers: Workers = None,
    shard: Shard = None,
    retry_failed: RetryFailed = False,
    fail_fast: FailFast = False,
    cluster: Cluster = None,
    jobs: Jobs = None,
    assignments: Set = None,
    status: Status = False,
    collect: Collect = False,
    device: o.Device = "auto",
    threads: o.Threads = None,
    batch_size: o.BatchSize = None,
    offline: o.Offline = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    log_file: o.LogFile = None,
) -> None:
    """Write the anomaly maps of many brain scans, skipping those that are done.

    Also writes summary.tsv and failed.tsv. For research only, not for diagnosis.
    """
    given = locals() | {"participant_label": participant_label or (), "session": session or ()}
    yield_cores()  # before torch is loaded
    with o.reporter(given) as reporter:
        from uadcli.batches import batch as run
        from uadcli.batches import cluster as clusters
        from uadcli.detection.options import DetectOptions

        chosen = o.pick(DetectOptions, given, save=o.saved(save), command=ctx.obj.command(keep_paths))
        request = run.Request(paths or [], output, o.detect_config(given), chosen, o.pick(run.BatchOptions, given))
        told, result = clusters.carry_out(request, o.pick(clusters.ClusterOptions, given), reporter, dry_run)
    print_result(told, end="")
    run.refuse_failed(result)
