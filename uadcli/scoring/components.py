"""Connected components of the thresholded anomaly map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Component:
    """One finding: volume, highest and mean score, and the places of centre and peak in mm of the map's world space."""

    index: int
    volume_mm3: float
    peak: float
    mean: float
    centroid_mm: tuple[float, float, float]
    peak_mm: tuple[float, float, float]


def components(
    anomaly_map: NDArray[np.float32], threshold: float, min_volume_mm3: float, affine: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], list[Component]]:
    """Threshold a map (X, Y, Z) and drop 26-connected components smaller than `min_volume_mm3` (method 7, step 4).

    Returns the components' labels, 1 for the largest and so on downwards, 0 for none, and one `Component` for each;
    labels beyond 255 share 255.
    """
    labels, found = label_components(anomaly_map > threshold, min_volume_mm3, affine)
    table = describe(labels, len(found), anomaly_map, affine)
    return np.minimum(labels, 255).astype(np.uint8), table


def label_components(
    mask: NDArray[np.bool_], min_volume_mm3: float, affine: NDArray[np.float64]
) -> tuple[NDArray[np.int32], list[int]]:
    """Label the components of a mask that are large enough, largest first; returns labels and sizes in voxels."""
    from scipy import ndimage

    raw, count = ndimage.label(mask, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(raw.ravel(), minlength=count + 1)
    sizes[0] = 0
    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    order = [i for i in np.argsort(-sizes, kind="stable") if sizes[i] > 0 and sizes[i] * voxel_mm3 >= min_volume_mm3]
    rename = np.zeros(count + 1, dtype=np.int32)
    rename[order] = np.arange(1, len(order) + 1)
    return rename[raw], [int(sizes[i]) for i in order]


def describe(
    labels: NDArray[np.int32], count: int, anomaly_map: NDArray[np.float32], affine: NDArray[np.float64]
) -> list[Component]:
    """The table of the components 1 ... count of `labels`."""
    from scipy import ndimage

    voxel_mm3 = abs(float(np.linalg.det(affine[:3, :3])))
    table = []
    for index, box in enumerate(ndimage.find_objects(labels, max_label=count), start=1):
        inside = np.argwhere(labels[box] == index)
        scores = anomaly_map[box][tuple(inside.T)]
        voxels = inside + [part.start for part in box]
        world = voxels @ affine[:3, :3].T + affine[:3, 3]
        centre, top = world.mean(axis=0), world[int(np.argmax(scores))]
        table.append(
            Component(
                index,
                len(voxels) * voxel_mm3,
                float(scores.max()),
                float(scores.mean()),
                (float(centre[0]), float(centre[1]), float(centre[2])),
                (float(top[0]), float(top[1]), float(top[2])),
            )
        )
    return table
