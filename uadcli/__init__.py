"""Anomaly maps of brain MRI without labels."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from uadcli.calibration.calibrate import calibrate as calibrate
    from uadcli.calibration.export import export as export
    from uadcli.config import DetectConfig as DetectConfig
    from uadcli.config import TrainingConfig as TrainingConfig
    from uadcli.detection.detect import detect as detect
    from uadcli.detection.options import DetectOptions as DetectOptions
    from uadcli.evaluation.evaluate import evaluate as evaluate
    from uadcli.training.train import train as train

logging.getLogger("uadcli").addHandler(logging.NullHandler())  # messages are shown where the user asks for them

HOMES = {  # of the public names, imported on first use, so that `import uadcli` alone stays light
    "DetectConfig": "uadcli.config",
    "DetectOptions": "uadcli.detection.options",
    "TrainingConfig": "uadcli.config",
    "calibrate": "uadcli.calibration.calibrate",
    "detect": "uadcli.detection.detect",
    "evaluate": "uadcli.evaluation.evaluate",
    "export": "uadcli.calibration.export",
    "train": "uadcli.training.train",
}
__all__ = [
    "DetectConfig",
    "DetectOptions",
    "TrainingConfig",
    "__version__",
    "calibrate",
    "detect",
    "evaluate",
    "export",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'uadcli' has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)
