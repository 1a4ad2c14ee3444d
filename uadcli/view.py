"""`uad view`: a map as a quick picture in the terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.config import GEOMETRIES
from uadcli.errors import InputError
from uadcli.imaging import geometry, stored
from uadcli.imaging.volume import Scan, Volume, by_stored_voxels, read_companion, stem
from uadcli.report import terminal

MIN_WIDTH = 40
FINEST_MM = 1.0  # of a pixel: half of it takes six times the memory, 7 GB, and shows no more
MNI_CODE = 4  # of an sform
CLOSING_MM = 8.0  # closes gaps at fluid and sulci, where a map may be zero, but not the gap to the face


def view(
    map_path: Path, scan_path: Path | None, width: int, warn: Callable[[str], object] | None = None
) -> tuple[str, NDArray[np.uint8]]:
    """A heading, and the pixels (rows, at most `width` columns, 3) of three planes through the highest score.

    The scan is shown only inside the brain: in `<map>_brain` next to the map (`--save brain`) if it exists, otherwise
    where the map is not zero. All are read with the geometry of the detection, by the map's sidecar, and of a 4-D scan
    its volume. `warn` is told if the sidecar names other scans than the given one, if only the map is in MNI space, and
    if the brain mask next to the map, which then is not used, has another grid.

    Raises `InputError` for files that cannot be used and for a map without a score.
    """
    sidecar = _sidecar(map_path)
    chosen = _geometry(sidecar)
    found = read_companion(map_path, chosen, allow_empty=True)
    anomaly = found.volume
    brain = _brain(map_path, found, warn)
    if not brain.any():
        raise InputError("the map is zero everywhere, so there is nothing to show", path=map_path, hint="")
    size = geometry.spacing(anomaly.affine)
    box = np.array([np.ptp(axis) + 1 for axis in np.nonzero(brain)]) * size
    wanted = float((2 * box[0] + box[1]) / (max(width, MIN_WIDTH) - 2 * terminal.GAP - 6))  # mm per pixel
    step = max(wanted, FINEST_MM)
    shape, affine = _isotropic(anomaly, step)
    inside = geometry.resample(brain.astype(np.float32), anomaly.affine, shape, affine) >= 0.5
    score = _largest(anomaly, shape, affine, step)
    inside |= (score >= score.max()) & (score > 0)  # keep findings that are smaller than a pixel
    grey = None
    if scan_path is not None:
        scan = read_companion(scan_path, chosen, volume=_volume(sidecar, scan_path))
        if warn is not None and _in_mni(found) and not _in_mni(scan):
            warn(f"{map_path.name} is in MNI space, so that a scan on its own grid does not lie where the map does")
        if warn is not None and (known := _scans(sidecar)) and scan.sha256 not in known:
            warn(f"{scan_path} is not the scan of this map: its sha256 is not in {sidecar.path.name}")
        hidden = np.where(brain, _on_grid(scan, found), 0)
        grey = geometry.resample(hidden, anomaly.affine, shape, affine, antialias=True)
    top = np.unravel_index(int(np.argmax(np.where(inside, score, -1))), shape)
    voxel = (int(top[0]), int(top[1]), int(top[2]))
    return terminal.side_by_side(terminal.panels(grey, score, inside, affine, voxel, found.sides_known))


@dataclass(frozen=True)
class _Sidecar:
    """The JSON file next to a map; its `content` is empty without one, and anything if another program wrote it."""

    path: Path
    content: dict[str, Any]

    @property
    def damaged(self) -> InputError:
        return InputError("is not the sidecar of a map", path=self.path, hint="Write it again, or remove it.")


def _sidecar(map_path: Path) -> _Sidecar:
    """The sidecar of a map. Raises `InputError` for a damaged file."""
    empty = _Sidecar(map_path.with_name(f"{stem(map_path)}.json"), {})
    if not empty.path.exists():
        return empty
    try:
        content = json.loads(empty.path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise empty.damaged from error
    return replace(empty, content=content) if isinstance(content, dict) else empty


def _geometry(sidecar: _Sidecar) -> str:
    """The `--geometry` of the detection; `auto` if the sidecar names none. Raises `InputError` for a damaged file."""
    requested = sidecar.content.get("requested")
    chosen = requested.get("geometry", "auto") if isinstance(requested, dict) else "auto"
    if chosen not in GEOMETRIES:
        raise sidecar.damaged
    return str(chosen)


def _volume(sidecar: _Sidecar, scan: Path) -> int | None:
    """The `--volume` of the detection, if it was of this scan; otherwise None."""
    content = sidecar.content
    first, asked = content.get("input"), content.get("requested")
    chosen = asked.get("volume") if isinstance(asked, dict) else None
    if not isinstance(chosen, int) or not isinstance(first, dict) or first.get("sha256") != stored.sha256(scan):
        return None
    return chosen


def _in_mni(scan: Scan) -> bool:
    """Whether a header says that a volume is in MNI space, as that of a map of `--space mni` does."""
    return isinstance(scan.header, nib.Nifti1Header) and int(scan.header["sform_code"]) == MNI_CODE


def _scans(sidecar: _Sidecar) -> set[str]:
    """The sha256 of the scans that gave the map, several if contrasts were joined; empty if the sidecar names none."""
    further = sidecar.content.get("contrasts")
    every = [sidecar.content.get("input"), *(further if isinstance(further, list) else [])]
    found = [one.get("sha256") for one in every if isinstance(one, dict)]
    return {digest for digest in found if isinstance(digest, str)}


def _on_grid(source: Scan, map_: Scan) -> Array:
    """The scan, resampled to the map's grid if necessary."""
    scan, target = source.volume, map_.volume
    if not (source.sides_known and map_.sides_known) and source.source_shape == map_.source_shape:
        return by_stored_voxels(scan.data, source, map_)
    if geometry.same_grid(scan.shape, scan.affine, target.shape, target.affine):
        return scan.data
    return geometry.resample(scan.data, scan.affine, target.shape, target.affine)


def _brain(map_path: Path, found: Scan, warn: Callable[[str], object] | None) -> NDArray[np.bool_]:
    """The saved brain mask on the map's grid, otherwise the extent of the map with gaps closed."""
    from scipy import ndimage

    anomaly = found.volume
    covered = anomaly.data > 0
    name = stem(map_path)
    saved = map_path.with_name(f"{name}_brain{map_path.name[len(name) :]}")
    if saved.exists():
        mask = read_companion(saved, found.geometry, allow_empty=True).volume
        if geometry.same_grid(mask.shape, mask.affine, anomaly.shape, anomaly.affine):
            return mask.data > 0
        if warn is not None:
            warn(f"{saved.name} is not used: it is not on the grid of {map_path.name}")
    if not covered.any():
        return covered
    size = geometry.spacing(anomaly.affine)
    distance = ndimage.distance_transform_edt(~np.pad(covered, 1), sampling=size)
    grown = np.pad(distance <= CLOSING_MM, 1)
    back = ndimage.distance_transform_edt(grown, sampling=size) > CLOSING_MM
    closed: NDArray[np.bool_] = back[2:-2, 2:-2, 2:-2] | covered
    return closed


def _isotropic(source: Volume, step: float) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """A grid with the source's directions and field of view, and voxels of `step` mm."""
    factor = step / geometry.spacing(source.affine)
    x, y, z = (int(n) for n in np.maximum(np.ceil(np.array(source.shape) / factor), 1))
    return (x, y, z), geometry.scaled_grid(source.affine, factor)


def _largest(source: Volume, shape: tuple[int, int, int], affine: NDArray[np.float64], step: float) -> Array:
    """The highest score within each pixel, so that small findings are not missed."""
    from scipy import ndimage

    size = tuple(int(n) for n in np.maximum(np.ceil(step / geometry.spacing(source.affine)), 1))
    highest = ndimage.maximum_filter(source.data, size=size)
    return geometry.resample(highest, source.affine, shape, affine, order=0)
