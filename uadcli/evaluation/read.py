"""Reading a map and its ground truth onto one grid."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from uadcli.arrays import Affine, Array, Mask
from uadcli.errors import InputError
from uadcli.evaluation.cases import Case
from uadcli.imaging import geometry, mask_file
from uadcli.imaging.volume import Scan, Volume, read_scan

SHARED = 2  # truths and masks kept in memory, since methods share them and cases are read scan by scan


@dataclass(frozen=True)
class Labelled:
    """A map (X, Y, Z), its affine, and on the same grid the lesions, and if any the mask and the findings.

    `moved` are resampled files.
    """

    scores: Array
    affine: Affine
    truth: Mask
    mask: Mask | None
    moved: tuple[str, ...]
    warnings: tuple[str, ...]
    found: Mask | None = None


class Reader:
    """Reads cases; with `resample`, truth or mask on another grid are resampled to the map's (nearest neighbour)."""

    def __init__(self, resample: bool) -> None:
        self.resample = resample
        self._shared = lru_cache(maxsize=SHARED)(self._read)

    def __call__(self, case: Case, findings: Path | None = None) -> Labelled:
        """Read a case, and the mask of its `findings`. Raises `InputError` for files that cannot be read or match."""
        scan = self._read(case.map)
        moved: list[str] = []
        if case.truth is None:  # declared healthy by the user
            truth = np.zeros(scan.volume.shape, dtype=bool)
        else:
            truth = self._on_grid(self._shared(case.truth), scan, moved)
        if case.healthy and truth.any():
            raise InputError(
                "contains lesions, but the scan is listed as healthy", path=case.truth, hint="Correct the table."
            )
        mask = None if case.mask is None else self._on_grid(self._shared(case.mask), scan, moved)
        if mask is not None and not mask.any():
            raise InputError("is an empty mask", path=case.mask, hint="Give a brain mask.")
        if mask is not None and truth.any() and not (truth & mask).any():
            raise InputError(f"no lesion voxel is inside {case.mask}", path=case.truth, hint="Check the mask.")
        found = None if findings is None else self._on_grid(self._read(findings), scan, moved)
        return Labelled(scan.volume.data, scan.volume.affine, truth, mask, tuple(moved), scan.warnings, found)

    @staticmethod
    def _read(path: Path) -> Scan:
        return read_scan(path, allow_empty=True)

    def _on_grid(self, source: Scan, scan: Scan, moved: list[str]) -> Mask:
        """A mask as voxels of the map's grid: labels from 1, or probabilities from one half."""
        data, own, grid = mask_file.marked(source.volume.data, source.path).voxels, source.volume, scan.volume
        if geometry.same_grid(grid.shape, grid.affine, own.shape, own.affine):
            return data
        if not self.resample:
            raise InputError(
                f"is on another grid ({_grid(own)}) from that of {scan.path.name} ({_grid(grid)})",
                path=source.path,
                hint="Resample it to the map's grid, or give --resample-truth.",
            )
        result = geometry.resample(data.astype(np.float32), own.affine, grid.shape, grid.affine, order=0) >= 0.5
        if data.any() and not result.any():
            hint = "The grids do not overlap, or the map's is too coarse."
            raise InputError(f"no voxel of it is left on the grid of {scan.path.name}", path=source.path, hint=hint)
        moved.append(source.path.name)
        return result


def _grid(volume: Volume) -> str:
    """A grid in words: size, spacing and centre."""
    size = "x".join(f"{step:.3g}" for step in geometry.spacing(volume.affine))
    centre = geometry.apply(volume.affine, (np.array(volume.shape) - 1) / 2)
    place = ", ".join(f"{mm:.1f}" for mm in centre)
    return f"{'x'.join(map(str, volume.shape))} voxels of {size} mm around ({place})"
