"""What a detection is asked for, beside the settings of its stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from uadcli.model import adapt
from uadcli.model.adapt import HealthyScans


@dataclass(frozen=True)
class DetectOptions:
    """What a run needs beside the settings of its stages: where, with what, and which files."""

    contrast: str | None = None
    brain_mask: Path | None = None
    labels: Path | None = None  # of lesions, for the threshold `best-dice` alone
    space: str = "native"
    save: tuple[str, ...] = ()
    only_map: bool = False
    html: bool = False
    weights: str | None = None
    adapt: Path | HealthyScans | None = None  # a folder of healthy scans of the same scanner, or what is in it
    score: str | None = None
    device: str = "auto"
    threads: int | None = None
    threshold: str = "auto"
    stability: int | None = None  # repeats with other seeds
    volume: int | None = None
    geometry: str = "auto"
    overwrite: bool = False
    strict: bool = False
    command: str = ""


def with_healthy(options: DetectOptions) -> DetectOptions:
    """The options with what the folder of `adapt` holds in its place. Raises `InputError`."""
    if options.adapt is None or isinstance(options.adapt, HealthyScans):
        return options
    return replace(options, adapt=adapt.find(Path(options.adapt), options.contrast, options.geometry))
