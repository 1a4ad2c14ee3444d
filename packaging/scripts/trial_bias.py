"""How far a voxel may be from the median of the brain to take part in the fit of the bias field: a trial.

    python packaging/scripts/trial_bias.py DATA

A field that is fitted to all voxels takes large bright lesions away; one fitted to too few leaves the scanner's field.
For each reach (in robust standard deviations; 0: all voxels): the AUPRC of plain intensity (FLAIR) or darkness (T1w)
in the glioma dev cases, and the coefficient of variation of white matter in IXI val scans, both on the model's grid.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from development import cases

from uadcli.config import PreprocessConfig, ScoringConfig
from uadcli.data.healthy import lesions_on_grid
from uadcli.data.prepare import prepare_cached
from uadcli.imaging import geometry, intensity, template
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import read_scan
from uadcli.scoring.metrics import average_precision
from uadcli.scoring.scores.residual import postprocess

REACHES = (0.0, 1.5, 2.0)
SCANS = 6


def main() -> None:
    data, config = Path(sys.argv[1]), PreprocessConfig()
    found = cases(data)
    gliomas = [c for c in found if c.part == "dev" and c.source == "tcga_lgg"]
    healthy = [c for c in found if c.part == "val" and c.contrast == "T1w"][-SCANS:]
    white = template.on_grid("mni_tissue_dseg") == intensity.WM
    table: dict[tuple[str, float], list[float]] = {}
    for case in gliomas + healthy:
        prepared, volume = prepare_cached(case.scan, config, Path(".cache")), read_scan(case.scan).volume
        raw = geometry.resample(
            volume.data, volume.affine, GRID_SHAPE, GRID_AFFINE, prepared.world_map, order=3, antialias=True
        )
        for reach in REACHES:
            intensity.FIT_REACH = reach or 1e6
            corrected = intensity.correct_bias(raw, prepared.mask)
            if case.lesions is None:
                values = corrected[prepared.mask & white]
                table.setdefault(("white matter variation", reach), []).append(float(values.std() / values.mean()))
                continue
            x = intensity.scale(corrected, prepared.mask, config)
            plain = postprocess(
                x if case.contrast == "FLAIR" else 1 - x, prepared.mask, ScoringConfig(erosion=1, median=3)
            )
            value = average_precision(plain, lesions_on_grid(case, prepared))
            table.setdefault((f"{case.contrast} glioma AUPRC", reach), []).append(value)
    for (name, reach), values in sorted(table.items()):
        print(f"{name}\treach {reach or 'all'}\t{np.mean(values):.3f}\t{len(values)} scans")


if __name__ == "__main__":
    main()
