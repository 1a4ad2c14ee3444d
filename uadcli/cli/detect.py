"""`uad detect`: one scan in, its anomaly map out."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from uadcli.cli import options as o
from uadcli.cli.grouped import grouped
from uadcli.config import DetectConfig
from uadcli.console import print_result
from uadcli.detection.options import DetectOptions
from uadcli.settings.option import OUTPUT, Option, option

Scan = Annotated[
    Path, typer.Argument(metavar="SCAN", help="The scan: .nii, .nii.gz, .img/.hdr or .mgz.", show_default=False)
]


@dataclass(frozen=True)
class Printed:
    """The path of the map, and whether the sidecar is printed."""

    output: Path | None = option(
        None,
        Option(
            "The map; by default SCAN_desc-anomaly_map.nii.gz next to the scan.",
            OUTPUT,
            ("--output", "-o"),
            metavar="MAP",
        ),
    )
    as_json: bool = option(False, Option("Print the sidecar as JSON instead of the map's path.", OUTPUT, ("--json",)))


@grouped(o.Network)
def detect(
    ctx: typer.Context, scan: Scan, printed: Printed, options: DetectOptions, config: DetectConfig, talk: o.RecordedTalk
) -> None:
    """Write the anomaly map of a brain scan, on the scan's own grid.

    Also writes its mask (_mask.nii.gz), a picture (_overlay.png) and the sidecar (.json).
    For research only, not for diagnosis.
    """
    o.check_together(options, ctx.params)
    with talk.reporter() as reporter:
        from uadcli.detection import detect as run

        chosen = replace(options, command=talk.command)
        result = run.detect(scan, printed.output, config=config, options=chosen, reporter=reporter)
    print_result(json.dumps(result.sidecar, indent=2) if printed.as_json else os.fsencode(result.map_path))
