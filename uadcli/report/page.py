"""The page of one scan: a single HTML file with a viewer, the findings, the checks and the parameters."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.errors import InputError
from uadcli.report import check_pictures, phrases, viewer
from uadcli.report.markup import number, render
from uadcli.report.native import Native, voxel
from uadcli.report.native import data as native_data

DEVIATION = 2  # standard deviations are stored up to half of the range of intensities
VIEW = "Radiological view: the patient's right (R) is on the image's left; A front, P back, S top, I bottom."


@dataclass(frozen=True)
class Volumes:
    """The volumes of a page, all (X, Y, Z) on one grid with axes to the right, front and top, and its affine (4x4, mm).

    `scan` and `recon` are in [0, 1], `anomaly_map` >= 0; `labels` number the findings from 1; nothing is shown outside
    the mask `brain`; `template_brain` and `template_tissue` (1 fluid, 2 grey, 3 white matter) are for the check
    pictures. `further` are other contrasts of the patient by name, scaled as `scan`. Without `sides_known`, nothing is
    called left or right.
    """

    scan: NDArray[np.float32]
    recon: NDArray[np.float32]
    anomaly_map: NDArray[np.float32]
    labels: NDArray[np.uint8]
    brain: NDArray[np.bool_]
    template_brain: NDArray[np.bool_]
    template_tissue: NDArray[np.uint8]
    affine: NDArray[np.float64]
    sides_known: bool = True
    further: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    healthy: HealthyRange | None = None


@dataclass(frozen=True)
class HealthyRange:
    """Mean and standard deviation of healthy scans' intensities, on blocks of the volumes' voxels (X/n, Y/n, Z/n)."""

    mean: NDArray[np.float32]
    deviation: NDArray[np.float32]


def page(volumes: Volumes, sidecar: Mapping[str, Any]) -> str:
    """The page as HTML, from the volumes and the content of the sidecar; no voxel outside the brain mask is included.

    Raises `InputError` for an empty brain mask.
    """
    context = _context(volumes, sidecar, volumes)
    return render("page.html", scripts=("controls.js", "page.js"), data=_data(volumes, context["score_max"]), **context)


def native_page(volumes: Volumes, native: Native, sidecar: Mapping[str, Any], library: str) -> str:
    """The same with the scan in native space, shown by the script of NiiVue, `library`.

    `volumes` are for the check pictures. Raises `InputError` for an empty brain mask.
    """
    shown = native.cropped()
    context = _context(volumes, sidecar, shown)
    data = native_data(shown, context["score_max"], context["threshold"])
    size = " x ".join(f"{one:.3g}" for one in np.linalg.norm(shown.affine[:3, :3], axis=0))
    context |= {"size": size, "viewer": viewer, "licence": viewer.licence_text()}
    return render("native.html", scripts=("controls.js", "native.js"), data=data, library=library, **context)


def _context(v: Volumes, sidecar: Mapping[str, Any], shown: Volumes | Native) -> dict[str, Any]:
    """What both pages say; `shown` are the volumes in the viewer."""
    if not v.brain.any():
        raise InputError("the brain mask is empty, so there is nothing to show", hint="Check the mask.")
    used, anomaly = sidecar["threshold"], sidecar["anomaly"]
    threshold = float(used["value"])
    return {
        "sidecar": sidecar,
        "name": sidecar["input"]["name"],
        "phrases": phrases,
        "further": list(v.further),
        "contrasts": sidecar.get("contrasts") or [],
        "score_max": max(1.6 * threshold, float(shown.anomaly_map[shown.brain].max()), 1e-6),
        "threshold": threshold,
        "extent": used.get("extent"),
        "spacing": f"{np.diag(v.affine)[0]:g}",
        "view": VIEW if v.sides_known else phrases.SIDES_UNKNOWN,
        "block": None if v.healthy is None else f"{np.diag(v.affine)[0] * _block(v.healthy, v):g}",
        "findings": [_finding(one, anomaly["healthy_scans"], shown) for one in anomaly["components"]],
        "mask_picture": check_pictures.mask_picture(v.scan, v.brain, v.template_brain, v.affine, v.sides_known),
        "registration_picture": check_pictures.registration_picture(
            v.scan, v.brain, v.template_tissue, v.affine, v.sides_known
        ),
        "parameters": [(key, _in_words(value)) for key, value in _parameters(sidecar)],
    }


def _data(v: Volumes, score_max: float) -> dict[str, Any]:
    """The data of the viewer: volumes as bytes, 0 outside the brain, deflated and in base64."""
    from matplotlib import colormaps

    shown = {
        "brain": v.brain,
        "scan": np.where(v.brain, np.clip(v.scan, 0, 1) * 255, 0),
        "recon": np.where(v.brain, np.clip(v.recon, 0, 1) * 255, 0),
        "map": np.where(v.brain, np.clip(v.anomaly_map / score_max, 0, 1) * 255, 0),
        "labels": np.where(v.brain, v.labels, 0),
    }
    for i, scan in enumerate(v.further.values()):
        shown[f"further{i}"] = np.where(v.brain, np.clip(scan, 0, 1) * 255, 0)
    colours = (colormaps["inferno"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return {
        "shape": list(v.scan.shape),
        "origin": v.affine[:3, 3].tolist(),
        "spacing": np.diag(v.affine)[:3].tolist(),
        "start": np.round(np.argwhere(v.brain).mean(axis=0)).astype(int).tolist(),
        "score_max": score_max,
        "sides_known": v.sides_known,
        "further": list(v.further),
        "colours": base64.b64encode(colours.tobytes()).decode(),
        "volumes": {key: _packed(volume) for key, volume in shown.items()},
        "healthy": None if v.healthy is None else _range(v.healthy, v),
    }


def _block(healthy: HealthyRange, v: Volumes) -> int:
    """How many voxels of the page a block of the healthy range spans along each axis."""
    return v.scan.shape[0] // healthy.mean.shape[0]


def _range(healthy: HealthyRange, v: Volumes) -> dict[str, Any]:
    """The healthy range as bytes, the deviation up to 1 / `DEVIATION`; 0 where no voxel of a block is in the mask."""
    n = _block(healthy, v)
    shape = healthy.mean.shape
    inside = v.brain.reshape(shape[0], n, shape[1], n, shape[2], n).any(axis=(1, 3, 5))
    parts = {"mean": healthy.mean, "deviation": healthy.deviation * DEVIATION}
    packed = {key: _packed(np.where(inside, np.clip(part, 0, 1) * 255, 0)) for key, part in parts.items()}
    return {"block": n, "shape": list(shape), "deviations": DEVIATION, "volumes": packed}


def _packed(volume: NDArray[Any]) -> str:
    whole = np.ascontiguousarray(np.round(volume).astype(np.uint8) if volume.dtype != bool else volume)
    return base64.b64encode(zlib.compress(whole.tobytes(), 9)).decode()


def _finding(one: Mapping[str, Any], comparison: Mapping[str, Any] | None, v: Volumes | Native) -> dict[str, Any]:
    """A row of the table of findings, with the voxel of its highest score, to which it jumps."""
    peak = one["peak_native_mm" if isinstance(v, Native) else "peak_mni_mm"]
    x, y, z = one["centroid_mni_mm"]
    across = f"{x:+.0f}" if v.sides_known else f"±{abs(x):.0f}"
    return {
        "index": one["index"],
        "voxel": ",".join(map(str, voxel(peak, v.affine, v.scan.shape))),
        "volume": number(one["volume_ml"]),
        "peak": number(one["peak"], 3),
        "mean": number(one["mean"], 3),
        "healthy": phrases.healthy_cell(one["healthy_scans_as_strong"], comparison),
        "interval": phrases.interval_cell(one["healthy_scans_interval"]),
        "side": one["side"] or "not known",
        "location": phrases.regions_phrase(one["regions"]).replace(" %", "\u00a0%"),
        "centre": f"{across} {y:+.0f} {z:+.0f}",
    }


def _parameters(sidecar: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What determined the result. The command is left out, since folder names may name a patient."""
    about = sidecar["input"]
    yield "scan", f"sha256 {about['sha256']}"
    yield "voxels", " x ".join(map(str, about["shape"]))
    yield "voxel size (mm)", " x ".join(number(size) for size in about["spacing_mm"])
    yield "axes", about["axes"]
    weights = sidecar["weights"]
    yield "weights", f"{weights['name']} {weights['version']}, licence {weights['licence']}, sha256 {weights['sha256']}"
    if weights.get("adapted"):
        yield "adapted by", phrases.adapted_phrase(**weights["adapted"])
    for key in (
        "score",
        "threshold",
        "strip",
        "registration",
        "gate",
        "stability",
        "seed",
        "device",
        "settings",
        "seconds",
        "versions",
    ):
        yield from _flat(key, sidecar.get(key))


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for inner, item in value.items():
            yield from _flat(f"{key}.{inner}", item)
    else:
        yield key, value


def _in_words(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none given"
    return "-" if value is None else str(value)
