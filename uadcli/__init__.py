"""Anomaly maps of brain MRI without labels."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
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
    "detect": "uadcli.detection.detect",
    "evaluate": "uadcli.evaluation.evaluate",
    "train": "uadcli.training.train",
}
__all__ = ["DetectConfig", "DetectOptions", "TrainingConfig", "__version__", "detect", "evaluate", "train"]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module 'uadcli' has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)
