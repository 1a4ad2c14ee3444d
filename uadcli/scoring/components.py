"""Connected components of the thresholded anomaly map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Component:
    """One finding: volume, highest and mean score, and centroid and peak in mm of the map's world space (RAS+).

    The volume is on the map's grid; `model.components.volume_ml` has it in the patient's space.
    `regions` are pairs of a region's number in the atlas and the share (0..1) of the finding in it, largest first. They
    add up to less than 1 if part of the finding is outside all regions, and are empty without an atlas. `left` is the
    share of it (0..1) at x < 0, voxels at 0 counting half.
    """

    index: int
    volume_mm3: float
    peak: float
    mean: float
    centroid_mm: tuple[float, float, float]
    peak_mm: tuple[float, float, float]
    left: float
    regions: tuple[tuple[int, float], ...] = ()


def components(
    anomaly_map: NDArray[np.float32],
    threshold: float,
    min_volume_mm3: float,
    affine: NDArray[np.float64],
    atlas: NDArray[np.uint8] | None = None,
    extent: float | None = None,
) -> tuple[NDArray[np.uint8], list[Component]]:
    """Threshold a map (X, Y, Z) and drop 26-connected components smaller than `min_volume_mm3` (method 7, step 4).

    Cavities count towards the minimum volume; `min_volume_mm3` <= 0 keeps all. With an `extent`, a lower threshold,
    each component then extends to all connected voxels above that (`extended`). Returns the labels (X, Y, Z), 1 for the
    largest component, 0 for none, and one `Component` for each, whose volume excludes cavities; labels beyond 255 are
    255. `atlas` (X, Y, Z) numbers regions from 1, 0 is none.
    """
    labels, found = label_map(anomaly_map, threshold, min_volume_mm3, affine, extent)
    table = describe(labels, len(found), anomaly_map, affine, atlas)
    return np.minimum(labels, 255).astype(np.uint8), table


def label_components(
    mask: NDArray[np.bool_], min_volume_mm3: float, affine: NDArray[np.float64]
) -> tuple[NDArray[np.int32], list[int]]:
    """Label the large enough components of a mask (X, Y, Z), largest first; returns labels and sizes in voxels."""
    from scipy import ndimage

    raw, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(raw.ravel(), minlength=count + 1)
    # in voxels; a component of exactly the minimum volume is kept despite rounding of the determinant
    enough = min_volume_mm3 / abs(float(np.linalg.det(affine[:3, :3]))) - 1e-6
    filled = sizes.copy()
    for index, box in enumerate(ndimage.find_objects(raw), start=1):
        if sizes[index] < enough <= raw[box].size:  # too small, but its box has room for a cavity
            filled[index] = ndimage.binary_fill_holes(raw[box] == index).sum()
    return _ranked(raw, sizes, filled >= enough)


def label_map(
    anomaly_map: NDArray[np.float32],
    threshold: float,
    min_volume_mm3: float,
    affine: NDArray[np.float64],
    extent: float | None = None,
) -> tuple[NDArray[np.int32], list[int]]:
    """Label the components of a map (X, Y, Z) as `components` does; returns labels and sizes in voxels."""
    labels, found = label_components(anomaly_map > threshold, min_volume_mm3, affine)
    if extent is None or not found:
        return labels, found
    return extended(labels > 0, anomaly_map > extent)


def extended(cores: NDArray[np.bool_], around: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[int]]:
    """The 26-connected components of `around` or `cores` that hold a voxel of `cores`, all (X, Y, Z), largest first.

    Hysteresis thresholding (Canny 1986, IEEE Trans. Pattern Anal. 8): a strict threshold decides whether there is a
    finding, a gentler one how far it reaches. Returns labels and sizes in voxels as `label_components`.
    """
    from scipy import ndimage

    raw, count = ndimage.label(cores | around, structure=np.ones((3, 3, 3)))
    kept = np.bincount(raw[cores], minlength=count + 1) > 0
    return _ranked(raw, np.bincount(raw.ravel(), minlength=count + 1), kept)


def _ranked(
    raw: NDArray[np.integer], sizes: NDArray[np.integer], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.int32], list[int]]:
    """Labels by falling size, of those that are `kept`, and their sizes; label 0 is the background."""
    order = [i for i in np.argsort(-sizes, kind="stable") if i > 0 and sizes[i] > 0 and kept[i]]
    rename = np.zeros(len(sizes), dtype=np.int32)
    rename[order] = np.arange(1, len(order) + 1)
    return rename[raw], [int(sizes[i]) for i in order]


def describe(
    labels: NDArray[np.int32],
    count: int,
    anomaly_map: NDArray[np.float32],
    affine: NDArray[np.float64],
    atlas: NDArray[np.uint8] | None = None,
) -> list[Component]:
    """The components 1 ... count of `labels`, described in one pass.

    Labels, map and `atlas` (region numbers, 0 for none) are (X, Y, Z) on the grid of `affine` (4x4, mm).
    """
    if count == 0:
        return []
    flat = np.flatnonzero(labels)
    which, scores = labels.ravel()[flat] - 1, anomaly_map.ravel()[flat].astype(np.float64)
    world = np.column_stack(np.unravel_index(flat, labels.shape)) @ affine[:3, :3].T + affine[:3, 3]
    sizes = np.bincount(which, minlength=count)
    mean = np.bincount(which, scores, count) / sizes
    centre = np.column_stack([np.bincount(which, along, count) / sizes for along in world.T])
    left = np.bincount(which, (1 - np.sign(world[:, 0])) / 2, count) / sizes
    order = np.lexsort((-scores, which))  # by component, the highest score first
    top = order[np.cumsum(sizes) - sizes]
    volumes = sizes * abs(float(np.linalg.det(affine[:3, :3])))
    places: list[tuple[tuple[int, float], ...]] = [()] * count
    if atlas is not None:
        places = _shares(which, atlas.ravel()[flat], sizes)
    return [
        Component(
            i + 1,
            float(volumes[i]),
            float(scores[t]),
            float(mean[i]),
            _point(centre[i]),
            _point(world[t]),
            float(left[i]),
            places[i],
        )
        for i, t in enumerate(top)
    ]


def _shares(
    which: NDArray[np.integer], region: NDArray[np.uint8], sizes: NDArray[np.int64]
) -> list[tuple[tuple[int, float], ...]]:
    """For each component, the regions of its voxels and the share of it in each, largest first."""
    count = np.zeros((len(sizes), 256), dtype=np.int64)
    np.add.at(count, (which, region), 1)
    order = np.argsort(-count[:, 1:], axis=1, kind="stable") + 1
    return [
        tuple((int(r), float(here[r] / size)) for r in ranked if here[r])
        for here, ranked, size in zip(count, order, sizes, strict=True)
    ]


def _point(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return x, y, z
