"""`uad detect`: one scan in, its anomaly map out."""

from __future__ import annotations

import json
import os

import typer

from uadcli.cli import options as o
from uadcli.console import print_result


def detect(
    ctx: typer.Context,
    scan: o.Scan,
    output: o.Output = None,
    contrast: o.Contrast = None,
    volume: o.VolumeIndex = None,
    geometry: o.Geometry = "auto",
    brain_mask: o.BrainMask = None,
    strip: o.Strip = None,
    weights: o.Weights = None,
    method: o.Method = None,
    adapt: o.Adapt = None,
    score: o.Score = None,
    threshold: o.Threshold = o.AUTO,
    labels: o.Labels = None,
    min_volume: o.MinVolume = None,
    seed: o.Seed = None,
    stability: o.Stability = None,
    config: o.ConfigFile = None,
    space: o.Space = "native",
    save: o.Save = "",
    only_map: o.OnlyMap = False,
    html: o.Html = False,
    keep_paths: o.KeepPaths = False,
    overwrite: o.Overwrite = False,
    as_json: o.AsJson = False,
    strict: o.Strict = False,
    device: o.Device = "auto",
    threads: o.Threads = None,
    batch_size: o.BatchSize = None,
    offline: o.Offline = False,
    verbose: o.Verbose = False,
    quiet: o.Quiet = False,
    debug: o.Debug = False,
    log_file: o.LogFile = None,
) -> None:
    """Write the anomaly map of a brain scan, on the scan's own grid.

    Also writes its mask (_mask.nii.gz), a picture (_overlay.png) and the sidecar (.json).
    For research only, not for diagnosis.
    """
    given = locals()
    o.exclusive(given)
    settings = o.detect_config(given)
    with o.reporter(given) as reporter:
        from uadcli.detection import detect as run
        from uadcli.detection.options import DetectOptions

        chosen = o.pick(DetectOptions, given, save=o.saved(save), command=ctx.obj.command(keep_paths))
        result = run.detect(scan, output, config=settings, options=chosen, reporter=reporter)
    print_result(json.dumps(result.sidecar, indent=2) if as_json else os.fsencode(result.map_path))
