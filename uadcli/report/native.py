"""What the page of a scan shows in native space: volumes as NIfTI files, of which only the brain is there."""

from __future__ import annotations

import base64
import dataclasses
import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.errors import InputError

MARGIN = 2  # voxels around the brain
WINDOW = (0.5, 99.8)  # percentiles of the brain that become the darkest and the brightest grey
COLOURS = 16  # from which the viewer interpolates
FAINTEST = 0.5  # share of the threshold below which the map is not drawn


@dataclass(frozen=True)
class Native:
    """The volumes of a scan in native space, all (X, Y, Z) on one grid with its affine (4x4, mm, RAS+).

    `scan` has any scale, `anomaly_map` is >= 0; `labels` number the findings from 1; nothing is shown outside the mask
    `brain`. `further` are other contrasts of the patient by name. Without `sides_known`, nothing is called left or
    right.
    """

    scan: NDArray[np.float32]
    anomaly_map: NDArray[np.float32]
    labels: NDArray[np.uint8]
    brain: NDArray[np.bool_]
    affine: NDArray[np.float64]
    sides_known: bool = True
    further: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def cropped(self) -> Native:
        """The box around the brain, with everything outside the brain mask set to 0. Raises `InputError` for none."""
        if not self.brain.any():
            raise InputError("the brain mask is empty, so there is nothing to show", hint="Check the mask.")
        places = np.argwhere(self.brain)
        low = np.maximum(places.min(axis=0) - MARGIN, 0)
        box = tuple(slice(a, b + 1 + MARGIN) for a, b in zip(low, places.max(axis=0), strict=True))
        affine = self.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ low
        inside = self.brain[box]
        return dataclasses.replace(
            self,
            scan=np.where(inside, self.scan[box], 0),
            anomaly_map=np.where(inside, self.anomaly_map[box], 0),
            labels=np.where(inside, self.labels[box], 0),
            brain=inside,
            affine=affine,
            further={name: np.where(inside, one[box], 0) for name, one in self.further.items()},
        )


def data(v: Native, score_max: float, threshold: float) -> dict[str, Any]:
    """The data of the viewer, of volumes that are cropped: NIfTI files in base64, one byte a voxel."""
    from matplotlib import colormaps

    places = np.round(np.linspace(0, 255, COLOURS)).astype(int)
    red, green, blue = (colormaps["inferno"](places)[:, :3] * 255).round().astype(int).T.tolist()
    pictures = {"scan": v.scan, **v.further}
    score = np.where(v.brain, np.clip(v.anomaly_map / score_max, 0, 1) * 255, 0)
    return {
        "shape": list(v.scan.shape),
        "affine": v.affine.tolist(),
        "start": np.round(np.argwhere(v.brain).mean(axis=0)).astype(int).tolist(),
        "score_max": score_max,
        "faintest": FAINTEST * threshold,
        "sides_known": v.sides_known,
        "colours": {"R": red, "G": green, "B": blue, "I": places.tolist()},
        "pictures": [{"name": name, "file": _nifti(_greys(one, v.brain), v.affine)} for name, one in pictures.items()],
        "map": _nifti(score, v.affine, score_max / 255),
        "labels": _nifti(v.labels, v.affine),
    }


def voxel(mm: Any, affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.int_]:
    """The voxel of a grid nearest to a point in mm."""
    back = np.linalg.inv(affine)
    place = back[:3, :3] @ np.asarray(mm, dtype=float) + back[:3, 3]
    return np.clip(np.round(place), 0, np.array(shape) - 1).astype(int)


def _greys(scan: NDArray[np.float32], brain: NDArray[np.bool_]) -> NDArray[np.float64]:
    """A scan as 1 to 255 in the brain, 0 outside."""
    low, high = np.percentile(scan[brain], WINDOW)
    return np.where(brain, 1 + 254 * np.clip((scan - low) / (high - low or 1.0), 0, 1), 0)


def _nifti(values: NDArray[Any], affine: NDArray[np.float64], slope: float = 1.0) -> str:
    """A compressed NIfTI file of bytes, in base64; its header has no text."""
    import nibabel

    image = nibabel.Nifti1Image(np.round(values).astype(np.uint8), affine)
    image.header.set_slope_inter(slope, 0)
    image.header.set_xyzt_units("mm")
    return base64.b64encode(gzip.compress(image.to_bytes(), 9, mtime=0)).decode()
