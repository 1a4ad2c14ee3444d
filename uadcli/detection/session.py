"""What all steps of a detection share: settings, options, the torch device, messages, and where models come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.detection.options import DetectOptions
from uadcli.model import adapt, model
from uadcli.model.healthy_folder import HealthyScans
from uadcli.model.model import Model

Load = Callable[[Path, str | None], Model]


@dataclass(frozen=True)
class Session:
    """The settings and options of a run, the name of its torch device, and its messages.

    `load` takes the place of `model.load`, so that a batch reads each model once.
    """

    config: DetectConfig
    options: DetectOptions
    device: str
    reporter: Reporter
    load: Load | None = None

    def model(self, contrast: str | None) -> Model:
        """The model of a contrast: the one that the options name, else the bundled one. Raises `WeightsError`."""
        from uadcli.weights import weights

        file = weights.find(self.options.weights, contrast)
        return self.load(*file) if self.load else model.load(*file, self.device)


def with_healthy(options: DetectOptions) -> DetectOptions:
    """The options with what the folder of `adapt` holds in its place. Raises `InputError`."""
    if options.adapt is None or isinstance(options.adapt, HealthyScans):
        return options
    return replace(options, adapt=adapt.find(Path(options.adapt), options.contrast, options.geometry))
