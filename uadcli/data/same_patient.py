"""Two scans of one patient: the rigid registration between them, and whether they show the same brain at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uadcli.arrays import Affine, Array, Mask
from uadcli.data.prepare import Prepared
from uadcli.errors import InputError
from uadcli.imaging import geometry, registration
from uadcli.imaging.slices import GRID_AFFINE, GRID_SHAPE
from uadcli.imaging.volume import Volume
from uadcli.scoring import metrics

STEP_MM = 3.0  # of the grid in the patient's space on which two brains are registered
MARGIN_MM = 12.0  # around the first brain
# Limits: see packaging/docs/several-contrasts.md
OVERLAP, MARGIN = 0.85, 0.06
MIRROR: Affine = np.diag([-1.0, 1.0, 1.0, 1.0])  # left to right in MNI space


@dataclass(frozen=True)
class Alignment:
    """Where another scan of a patient lies, and how well its brain fits that of the first scan.

    `matrix` (4x4, a rotation and a shift, RAS+ mm) maps points of the first scan to points of the other;
    `to_other_grid` maps MNI points of the first scan to MNI points of the other, each by its own registration to the
    template. `mask_overlap` is the Dice of the two brain masks, `similarity` how well the edges of the two brains agree
    (`registration.gradient_agreement`; a third is chance), `mirrored` the same for the other brain with left and right
    exchanged, registered alike; all are in 0..1. The last two are None where there was too little to compare.
    """

    matrix: Affine
    to_other_grid: Affine
    mask_overlap: float
    similarity: float | None
    mirrored: float | None

    @property
    def shift_mm(self) -> float:
        """How far the registration moves the origin of the first scan's world, in mm."""
        return float(np.linalg.norm(self.matrix[:3, 3]))

    @property
    def degrees(self) -> float:
        """The angle of the rotation."""
        cosine = (np.trace(self.matrix[:3, :3]) - 1) / 2
        return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))))

    def brought(self, values: Array, order: int = 1) -> Array:
        """A volume on the other scan's model grid (96, 96, 80) brought to that of the first; 0 outside."""
        return _brought(values, self.to_other_grid, order)

    def brought_mask(self, mask: Mask) -> Mask:
        """A mask (96, 96, 80) brought in the same way."""
        return _brought_mask(mask, self.to_other_grid)


def align(first: Prepared, other: Prepared) -> Alignment:
    """Register the brain of another scan to that of the first, as it is and mirrored. Raises `InputError`.

    The registration starts from those of both scans to the template, so that headers need not agree.
    """
    grid = _grid(first)
    fixed = _seen(first, grid, _inverse(first.world_map))
    centre = geometry.apply(first.world_map, _centre(first))
    start = registration.nearest_rigid(other.world_map @ _inverse(first.world_map), centre)

    def rigid(mirror: Affine) -> tuple[Affine, Affine]:
        """The rigid map from the first scan to the other, and the map between their MNI spaces that follows from it."""
        back = mirror @ _inverse(other.world_map) @ start
        rest = registration.register_rigid(_seen(other, grid, back), fixed, step_mm=STEP_MM)
        return start @ rest, back @ rest @ first.world_map

    found, chain = rigid(np.eye(4))
    overlap, similarity = _agreement(first, other, chain)
    mirrored = _agreement(first, other, rigid(MIRROR)[1])[1]
    return Alignment(found, chain, overlap, similarity, mirrored)


def fault(of: Alignment, first: str) -> InputError | None:
    """Why a scan must not be joined with the scan called `first`: another brain, or left and right exchanged.

    The mirrored brain stands for a stranger's, seen in the same contrasts and as sharply: that of the patient agrees
    better than its mirror image, a stranger's no better and no worse.
    """
    if of.similarity is None or of.mirrored is None:  # so nothing shows that left and right are the same
        return InputError(
            f"cannot be compared with {first}: too little of both brains lies in one place (overlap "
            f"{of.mask_overlap:.2f}, similarity {_in_words(of.similarity)}, mirrored {_in_words(of.mirrored)})",
            hint="Check that both are scans of one patient, and look at each by itself.",
        )
    seen = f"similarity {of.similarity:.2f}, mirrored {of.mirrored:.2f}"
    if of.mirrored - of.similarity >= MARGIN:
        return InputError(
            f"looks like the mirror image of {first} ({seen})",
            hint="Left and right are exchanged in one of them; correct its header.",
        )
    if of.mask_overlap < OVERLAP or of.similarity - of.mirrored < MARGIN:
        return InputError(
            f"does not show the same brain as {first} (overlap {of.mask_overlap:.2f}, expected at least {OVERLAP}; "
            f"{seen}, expected higher by at least {MARGIN})",
            hint="Check that both are scans of one patient, and look at each by itself.",
        )
    return None


def _in_words(value: float | None) -> str:
    return "not computed" if value is None else f"{value:.2f}"


def _inverse(affine: Affine) -> Affine:
    return np.asarray(np.linalg.inv(affine), dtype=np.float64)


def _brought(values: Array, chain: Affine, order: int = 1) -> Array:
    """A volume on one model grid on that of another scan, by the map `chain` from its MNI space; 0 outside."""
    return geometry.resample(values, GRID_AFFINE, GRID_SHAPE, GRID_AFFINE, chain, order=order)


def _brought_mask(mask: Mask, chain: Affine) -> Mask:
    return _brought(mask.astype(np.float32), chain) >= 0.5


def _seen(prepared: Prepared, grid: Volume, to_mni: Affine) -> Volume:
    """The brain of a scan on a grid in the patient's space; `to_mni` maps its points to the scan's MNI space."""
    inside = np.where(prepared.mask, registration.robust_range(prepared.data, prepared.mask), 0).astype(np.float32)
    return Volume(geometry.resample(inside, GRID_AFFINE, grid.shape, grid.affine, to_mni), grid.affine)


def _centre(prepared: Prepared) -> np.ndarray:
    """The centre of a brain in MNI space (mm)."""
    return geometry.apply(GRID_AFFINE, np.argwhere(prepared.mask).mean(axis=0))


def _grid(prepared: Prepared) -> Volume:
    """An empty grid along the axes of the patient's space around the brain."""
    voxels = np.argwhere(prepared.mask)
    corners = voxels.min(axis=0) + geometry.corners((2, 2, 2)) * (voxels.max(axis=0) - voxels.min(axis=0))
    points = geometry.apply(prepared.world_map @ GRID_AFFINE, corners)
    low, high = points.min(axis=0) - MARGIN_MM, points.max(axis=0) + MARGIN_MM
    affine = np.diag([STEP_MM, STEP_MM, STEP_MM, 1.0])
    affine[:3, 3] = low
    x, y, z = (int(n) for n in np.ceil((high - low) / STEP_MM))
    return Volume(np.zeros((x, y, z), dtype=np.float32), affine)


def _agreement(first: Prepared, other: Prepared, chain: Affine) -> tuple[float, float | None]:
    """Dice of the masks and agreement of the edges, on the first scan's model grid."""
    mask = _brought_mask(other.mask, chain)
    overlap = metrics.dice(mask, first.mask)
    return overlap, registration.gradient_agreement(_brought(other.data, chain), first.data, mask & first.mask)
