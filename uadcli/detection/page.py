"""Writing the page of a detection: its volumes and the template's in one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.data.prepare import to_native
from uadcli.detection import niivue
from uadcli.detection.findings import Findings, ReadyScan
from uadcli.detection.write import on_scan
from uadcli.files import finite, write_text
from uadcli.imaging import geometry, template
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.report import page
from uadcli.report.native import Native
from uadcli.scoring.healthy_reference import Reference

FAR_VOXELS = 5  # 1 cm


def write_page(
    path: Path,
    ready: ReadyScan,
    findings: Findings,
    content: dict[str, Any],
    kind: str,
    known: Reference | None = None,
) -> None:
    """Write the page of one scan; `content` is the sidecar's. A page of the `kind` niivue is in native space, any other
    on the model's grid (96, 96, 80).

    `known` is the healthy reference of the scan's own intensity, if the model has one. Raises `OutputError`, and
    `WeightsError` if NiiVue is not there.
    """
    from scipy import ndimage

    template_brain = template.on_grid("mni_brain_mask") > 0
    # a mask that includes more than the brain must not show a face: leave out what is far from the template's brain
    near = ndimage.binary_dilation(template_brain, iterations=FAR_VOXELS)
    volumes = page.Volumes(
        scan=findings.x,
        recon=findings.recon,
        anomaly_map=findings.anomaly_map,
        labels=findings.labels,
        brain=ready.prepared.mask & near,
        template_brain=template_brain,
        template_tissue=template.on_grid("mni_tissue_dseg").astype(np.uint8),
        affine=GRID_AFFINE,
        sides_known=content["input"]["sides_known"],
        further={
            str(one.contrast): one.of.alignment.brought(one.own.x)
            for one in findings.joined
            if one.own and one.of.alignment
        },
        healthy=None if known is None else page.HealthyRange(known.mean, known.deviation),
    )
    if kind == "niivue":
        native = native_volumes(ready, findings, near)
        html = page.native_page(volumes, native, finite(content), niivue.script())
    else:
        html = page.page(volumes, finite(content))
    write_text(path, html)


def native_volumes(ready: ReadyScan, findings: Findings, near: NDArray[np.bool_]) -> Native:
    """The volumes of a page on the scan's canonical grid; `near` is where something may be drawn, on the model's."""
    scan, prepared = ready.scan, ready.prepared
    grid = scan.volume

    def back(data: NDArray[Any], order: int = 1) -> Array:
        return to_native(data.astype(np.float32), scan, prepared, order)

    native_map, native_mask = on_scan(findings, scan, prepared)
    return Native(
        scan=grid.data,
        anomaly_map=native_map,
        labels=_labels(findings.labels, native_mask, back),
        brain=ready.brain & (back(near) >= 0.5),
        affine=grid.affine,
        sides_known=scan.sides_known,
        further={
            str(one.contrast): geometry.resample(
                np.where(other.brain, other.scan.volume.data, 0).astype(np.float32),
                other.scan.volume.affine,
                grid.shape,
                grid.affine,
                one.of.alignment.matrix,
            )
            for one in findings.joined
            if one.own and one.of.alignment and (other := one.of.ready)
        },
    )


def _labels(labels: NDArray[np.uint8], mask: NDArray[np.bool_], back: Any) -> NDArray[np.uint8]:
    """The number of the nearest finding in each voxel of the mask, on the grid to which `back` leads; 0 elsewhere.

    The mask, as it is written, may reach beyond a finding of the model's grid.
    """
    from scipy import ndimage

    if not labels.any():
        return np.zeros(mask.shape, np.uint8)
    nearest = ndimage.distance_transform_edt(labels == 0, return_distances=False, return_indices=True)
    return np.where(mask, back(labels[tuple(nearest)], 0), 0).astype(np.uint8)
