"""Writing the page of a detection: its volumes and the template's in one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from uadcli.data.prepare import Prepared
from uadcli.detection.findings import Findings
from uadcli.files import finite, write_text
from uadcli.imaging import template
from uadcli.imaging.slices import GRID_AFFINE
from uadcli.report import page

FAR_VOXELS = 5  # 1 cm


def write_page(path: Path, findings: Findings, prepared: Prepared, content: dict[str, Any]) -> None:
    """Write the page of one scan, on the model's grid (96, 96, 80); `content` is the sidecar's.

    Raises `OutputError`.
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
        brain=prepared.mask & near,
        template_brain=template_brain,
        template_tissue=template.on_grid("mni_tissue_dseg").astype(np.uint8),
        affine=GRID_AFFINE,
        sides_known=content["input"]["sides_known"],
        further={
            str(one.contrast): one.of.alignment.brought(one.own.x)
            for one in findings.joined
            if one.own and one.of.alignment
        },
    )
    write_text(path, page.page(volumes, finite(content)))
