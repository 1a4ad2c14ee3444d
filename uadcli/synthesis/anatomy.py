"""White matter, grey matter and fluid of a healthy volume, from labels or from template and intensities.

Used to place lesions: along the ventricles, below the cortex, within white matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from uadcli.arrays import Array, Mask
from uadcli.contrasts import T1W
from uadcli.imaging import intensity, template
from uadcli.synthesis.brains import CORTEX, CSF, DEEP, TISSUE, WHITE

VENTRICLES = (4, 5, 14, 15, 43, 44)  # FreeSurfer numbers: lateral with their horns, third, fourth
AROUND = 3  # voxels of 2 mm by which the ventricles of a scan may exceed those of the template


@dataclass(frozen=True)
class Anatomy:
    """Masks (X, Y, Z) of white matter, grey matter, all fluid, and the ventricles as part of it."""

    white: Mask
    grey: Mask
    fluid: Mask
    ventricles: Mask

    def mirrored(self) -> Anatomy:
        """The same with the first axis reversed."""
        return Anatomy(self.white[::-1], self.grey[::-1], self.fluid[::-1], self.ventricles[::-1])


@dataclass(frozen=True)
class Levels:
    """The intensities of normal tissue: medians in white matter, grey matter and fluid."""

    white: float
    grey: float
    fluid: float


def levels(x: Array, mask: Mask, anatomy: Anatomy) -> Levels:
    """The `Levels` of a volume (X, Y, Z); without ventricles, fluid is the 1st percentile of the brain."""
    white, grey = (float(np.median(x[part])) for part in (anatomy.white, anatomy.grey))
    inside = anatomy.ventricles & mask
    fluid = float(np.median(x[inside])) if inside.any() else float(np.percentile(x[mask], 1))
    return Levels(white, grey, fluid)


def of_labels(labels: NDArray[np.integer]) -> Anatomy:
    """The anatomy of a label map (2X, 2Y, 2Z) at half its resolution; a tissue fills at least half of a voxel."""
    size = int(labels.max()) + 1
    x, y, z = (n // 2 for n in labels.shape)

    def most(numbers: list[int]) -> Mask:
        table = np.zeros(size, dtype=np.float32)
        table[[n for n in numbers if n < size]] = 1
        return np.asarray(table[labels].reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5)) >= 0.5)

    by_tissue = {t: [n for n, tissue in TISSUE.items() if tissue in t] for t in ((WHITE,), (CORTEX, DEEP), (CSF,))}
    white, grey, fluid = (most(numbers) for numbers in by_tissue.values())
    return Anatomy(white, grey, fluid, most(list(VENTRICLES)))


def of_scan(x: Array, mask: Mask, contrast: str) -> Anatomy:
    """The anatomy of a T1w or FLAIR scan on the model's grid (96, 96, 80), x linear in its intensities.

    Fluid is determined by intensity; white and grey matter by intensity in T1w, and by the template in FLAIR. Raises
    `InputError` if there is too little normal tissue in the field of view.
    """
    low, grey, white = intensity.tissue_levels(x, mask)
    fluid = mask & (x < low + 0.5 * (min(grey, white) - low))
    tissue = template.on_grid("mni_tissue_dseg")
    by_template = (tissue == template.WHITE) & ~fluid
    is_white = mask & (x > (grey + white) / 2 if contrast == T1W.name else by_template)
    near = ndimage.binary_dilation(ventricles_of_template(), iterations=AROUND)
    return Anatomy(is_white, mask & ~is_white & ~fluid, fluid, fluid & near)


def ventricles_of_template() -> Mask:
    """The ventricles of the template on the model's grid (96, 96, 80)."""
    numbers = [number for number, name in template.region_names().items() if name.endswith("ventricle")]
    return np.isin(template.regions(), numbers)
