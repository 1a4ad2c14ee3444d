"""Anomaly maps of brain MRI without labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "detect", "evaluate"]

if TYPE_CHECKING:
    from uadcli.detection.detect import detect
    from uadcli.evaluation.evaluate import evaluate


def __getattr__(name: str) -> Any:
    """Load the public functions on first use, so that `import uadcli` alone stays light."""
    if name == "detect":
        from uadcli.detection.detect import detect

        return detect
    if name == "evaluate":
        from uadcli.evaluation.evaluate import evaluate

        return evaluate
    raise AttributeError(f"module 'uadcli' has no attribute {name!r}")
