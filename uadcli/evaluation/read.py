"""Reading a map and its ground truth onto one grid."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from uadcli.arrays import Affine, Array, Mask
from uadcli.errors import InputError
from uadcli.evaluation.cases import Case
from uadcli.imaging import geometry, mask_file
from uadcli.imaging.header_geometry import without_options
from uadcli.imaging.volume import Scan, Volume, by_stored_voxels, read_scan

SHARED = 2  # truths and masks kept in memory, since methods share them and cases are read scan by scan
SAME_SIZE = 0.01  # relative difference of voxel sizes that are the same, but for rounding in a header


@dataclass(frozen=True)
class Labelled:
    """A map (X, Y, Z), its affine, and on the same grid the lesions, and if any the mask and the findings.

    `moved` are resampled files, `stored` those compared by their stored voxels; `warnings` are about the map, `others`
    about the truth and the mask.
    """

    scores: Array
    affine: Affine
    truth: Mask
    mask: Mask | None
    moved: tuple[str, ...]
    warnings: tuple[str, ...]
    found: Mask | None = None
    stored: tuple[str, ...] = ()
    others: tuple[tuple[Path, str], ...] = ()


@dataclass
class _Placed:
    """The names of the files that were brought to a map's grid, by how it was done."""

    moved: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)


class Reader:
    """Reads cases; with `resample`, truth or mask on another grid are resampled to the map's (nearest neighbour).

    Without left and right in a header, the file's or the map's, nothing is resampled, as the result may be mirrored.
    """

    def __init__(self, resample: bool) -> None:
        self.resample = resample
        self._shared = lru_cache(maxsize=SHARED)(self._read)

    def __call__(self, case: Case, findings: Path | None = None) -> Labelled:
        """Read a case, and the mask of its `findings`. Raises `InputError` for files that cannot be read or match."""
        scan = self._read(case.map)
        placed = _Placed()
        if case.truth is None:  # declared healthy by the user
            truth = np.zeros(scan.volume.shape, dtype=bool)
        else:
            truth = self._on_grid(self._shared(case.truth), scan, placed)
        if case.healthy and truth.any():
            raise InputError(
                "contains lesions, but the scan is listed as healthy", path=case.truth, hint="Correct the table."
            )
        mask = None if case.mask is None else self._on_grid(self._shared(case.mask), scan, placed)
        if mask is not None and not mask.any():
            raise InputError("is an empty mask", path=case.mask, hint="Give a brain mask.")
        if mask is not None and truth.any() and not (truth & mask).any():
            raise InputError(f"no lesion voxel is inside {case.mask}", path=case.truth, hint="Check the mask.")
        found = None if findings is None else self._on_grid(self._read(findings), scan, placed)
        beside = [path for path in (case.truth, case.mask) if path is not None]
        return Labelled(
            scan.volume.data,
            scan.volume.affine,
            truth,
            mask,
            tuple(placed.moved),
            scan.warnings,
            found,
            tuple(placed.stored),
            tuple((path, text) for path in beside for text in self._shared(path).warnings),
        )

    @staticmethod
    def _read(path: Path) -> Scan:
        scan = read_scan(path, allow_empty=True)
        return replace(scan, warnings=tuple(map(without_options, scan.warnings)))

    def _on_grid(self, source: Scan, scan: Scan, placed: _Placed) -> Mask:
        """A mask as voxels of the map's grid: labels from 1, or probabilities from one half."""
        data, own, grid = mask_file.marked(source.volume.data, source.path).voxels, source.volume, scan.volume
        same = geometry.same_grid(grid.shape, grid.affine, own.shape, own.affine)
        if same and (source.sides_known or not scan.sides_known):
            return data
        if not (source.sides_known and scan.sides_known):
            if not _same_as_stored(source, scan):
                raise _sides_unknown(source, scan)
            placed.stored.append(source.path.name)
            return by_stored_voxels(data.astype(np.float32), source, scan) > 0
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
        placed.moved.append(source.path.name)
        return result


def _same_as_stored(one: Scan, other: Scan) -> bool:
    """Whether two files store voxels of the same number and size along each axis."""
    own, others = geometry.spacing(one.source_affine), geometry.spacing(other.source_affine)
    return one.source_shape == other.source_shape and np.allclose(own, others, rtol=SAME_SIZE, atol=0)


def _sides_unknown(source: Scan, scan: Scan) -> InputError:
    """The error for files that only their stored voxels could relate, which differ."""
    whose = f"the header of {scan.path.name}" if source.sides_known else "its header"
    stored = [_size(one.source_shape, one.source_affine) for one in (source, scan)]
    what = f"{whose} does not define left and right, and it stores {stored[0]}, but {scan.path.name} {stored[1]}"
    return InputError(
        what, path=source.path, hint="Give a file with the voxels of the map, or files with an orientation."
    )


def _size(shape: tuple[int, ...], affine: Affine) -> str:
    """The number and size of the voxels of a grid, in words."""
    size = "x".join(f"{step:.3g}" for step in geometry.spacing(affine))
    return f"{'x'.join(map(str, shape))} voxels of {size} mm"


def _grid(volume: Volume) -> str:
    """A grid in words: size, spacing and centre."""
    centre = geometry.apply(volume.affine, (np.array(volume.shape) - 1) / 2)
    place = ", ".join(f"{mm:.1f}" for mm in centre)
    return f"{_size(volume.shape, volume.affine)} around ({place})"
