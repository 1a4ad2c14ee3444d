"""Shared by all steps of a detection: settings, options, torch device, messages, and where models come from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.detection.options import DetectOptions
from uadcli.model import adapt, model
from uadcli.model.healthy_folder import HealthyScans
from uadcli.model.model import Model

Load = Callable[[Path, str | None], Model]


@dataclass(frozen=True)
class Session:
    """The settings and options of a run, its torch device, its reporter, and the threads it may use.

    `load` replaces `model.load`, so that a batch reads each model once. Reporter and models stay in the process: a
    pickled session has a silent reporter and loads models itself.
    """

    config: DetectConfig
    options: DetectOptions
    device: str
    reporter: Reporter = field(default_factory=lambda: Reporter(silent=True))
    load: Load | None = None
    threads: int = 1

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Session, threads=self.threads), (self.config, self.options, self.device)

    def of_scan(self, options: DetectOptions, reporter: Reporter) -> Session:
        """The same for one scan of a batch, with its own options and messages."""
        return replace(self, options=options, reporter=reporter)

    def model(self, contrast: str | None) -> Model:
        """The model for a contrast: that of the options, otherwise the bundled one. Raises `WeightsError`."""
        from uadcli.weights import weights

        file = weights.find(self.options.weights, contrast, reporter=self.reporter)
        return self.load(*file) if self.load else model.load(*file, self.device)


def in_arithmetic(config: DetectConfig) -> DetectConfig:
    """The settings with reconstruction and score in the arithmetic of `preprocess.precision`; `auto` changes nothing.

    By `auto` they run in float32 on a CPU: in bfloat16 the order of a scan's axes and the size of a batch change a map
    by some percent of its highest score.
    """
    if config.preprocess.precision == "auto":
        return config
    used = replace(config.reconstruction, arithmetic=config.preprocess.precision)
    return replace(config, reconstruction=used)


def with_healthy(options: DetectOptions, reporter: Reporter) -> DetectOptions:
    """The options with the folder in `adapt` replaced by its contents. Raises `InputError`."""
    if options.adapt is None or isinstance(options.adapt, HealthyScans):
        return options
    return replace(options, adapt=adapt.find(Path(options.adapt), options.contrast, options.geometry, reporter.info))
