"""What all steps of a detection share: settings, options, the torch device, messages, and where models come from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uadcli.config import DetectConfig
from uadcli.console import Reporter
from uadcli.detection.options import DetectOptions
from uadcli.model import model
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
