"""The result files of a detection: volumes on the grid of the scan or template, transform, and picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.data.names import Outputs
from uadcli.data.prepare import Prepared, to_native
from uadcli.errors import RESEARCH_USE
from uadcli.files import write_json
from uadcli.imaging import geometry, volume
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.imaging.volume import Scan, Volume
from uadcli.model import own_grid
from uadcli.report import preview, sidecar

if TYPE_CHECKING:
    from uadcli.detection.findings import Findings

NATIVE_PICTURE_MM = 1.0
NAMES = {  # stored in the headers of the volumes
    "map": "anomaly score",
    "mask": "anomaly mask",
    "recon": "recon",
    "uncertainty": "score deviation",
    "brain": "brain mask",
}


def write_files(
    files: Outputs, scan: Scan, brain: NDArray[np.bool_], prepared: Prepared, findings: Findings, space: str
) -> None:
    """Write the planned files of one scan except sidecar and page, in the space given by `space` or a `mni_` key.

    `brain` is the mask (X, Y, Z) on the scan's canonical grid. Raises `OutputError`.
    """
    native_map, native_mask = on_scan(findings, scan, prepared)
    scores = {"map": findings.anomaly_map, "recon": findings.recon}
    if findings.repeats.uncertainty is not None:
        scores["uncertainty"] = findings.repeats.uncertainty
    for key, path in files.paths.items():
        mni = key.startswith("mni_") or space == "mni"
        kind = key.removeprefix("mni_")
        if kind == "transform":
            write_json(path, transform(prepared))
        elif kind == "overlay":
            _picture(path, scan, brain, (native_map, native_mask), findings)
        elif kind in NAMES:
            values: Any
            if kind == "brain":
                values = prepared.mask if mni else brain
            elif kind == "mask":
                values = findings.labels > 0 if mni else native_mask
            elif kind == "map" and not mni:
                values = native_map
            else:
                values = scores[kind] if mni else to_native(scores[kind], scan, prepared, 1)
            _write_one(path, None if mni else scan, values, NAMES[kind])


def on_scan(findings: Findings, scan: Scan, prepared: Prepared) -> tuple[Array, NDArray[np.bool_]]:
    """Map and mask of the findings on the scan's canonical grid."""
    lowest = findings.threshold.lowest
    return own_grid.on_scan(findings.anomaly_map, findings.labels, findings.own_map, lowest, scan, prepared)


def transform(prepared: Prepared) -> dict[str, Any]:
    """The content of the transform file: the registration in both directions, 4x4 affines in mm."""
    return {
        "schema_version": sidecar.SCHEMA_VERSION,
        "research_use_only": RESEARCH_USE,
        "description": "4x4 affines between world points in mm, RAS+; MNI is MNI152NLin2009cAsym",
        "mni_to_native": prepared.world_map.tolist(),
        "native_to_mni": np.linalg.inv(prepared.world_map).tolist(),
    }


def _write_one(path: Path, scan: Scan | None, values: Any, name: str) -> None:
    """Write a map or mask on the grid of `scan`, or of the template if None."""
    dtype = np.uint8 if values.dtype == bool else np.float32
    if scan is None:
        volume.write_mni(path, Volume(values, GRID_AFFINE), dtype=dtype, name=name)
    else:
        volume.write_native(path, values, scan, dtype=dtype, name=name)


def _picture(
    path: Path, scan: Scan, brain: NDArray[np.bool_], native: tuple[Array, NDArray[np.bool_]], findings: Findings
) -> None:
    """Write the overlay, on an isotropic grid with the directions and field of view of the scan.

    `native` are map and mask on the scan's grid.
    """
    size = geometry.spacing(scan.volume.affine)
    factor = NATIVE_PICTURE_MM / size
    affine = scan.volume.affine @ np.diag([*factor, 1.0])
    x, y, z = (int(n) for n in np.maximum(np.round(np.array(scan.volume.shape) / factor), 1))
    used = findings.threshold

    def fine(data: Any, order: int = 1) -> Array:
        return geometry.resample(data.astype(np.float32), scan.volume.affine, (x, y, z), affine, order=order)

    further = {
        str(one.contrast): geometry.resample(
            np.where(ready.brain, ready.scan.volume.data, 0).astype(np.float32),
            ready.scan.volume.affine,
            (x, y, z),
            affine,
            one.of.alignment.matrix,
        )
        for one in findings.joined
        if one.own and one.of.alignment and (ready := one.of.ready)
    }
    overlay = preview.Overlay(
        fine(np.where(brain, scan.volume.data, 0)),
        fine(native[0]),
        fine(native[1]) >= 0.5,
        fine(brain) >= 0.5,
        affine,
        used.value,
        " + ".join([scan.path.name, *further]),
        scan.sides_known,
        used.extent,
        further,
    )
    preview.render_overlay(path, overlay)
