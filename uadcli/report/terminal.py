"""A picture for the terminal: the map over the scan in three planes through one point, as rows of pixels."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uadcli.errors import InputError
from uadcli.report.phrases import ends
from uadcli.report.preview import ACROSS, PLANES

GAP = 2  # pixels between panels
FAINT = 0.5  # share of the highest score below which the map is transparent


@dataclass(frozen=True)
class Panel:
    """One plane: its pixels (rows, columns, 3), its title, and the letters at its left and right edge."""

    pixels: NDArray[np.uint8]
    title: str
    ends: tuple[str, str]


def panels(
    scan: NDArray[np.float32] | None,
    anomaly_map: NDArray[np.float32],
    brain: NDArray[np.bool_],
    affine: NDArray[np.float64],
    voxel: tuple[int, int, int],
    sides_known: bool = True,
) -> list[Panel]:
    """Axial, coronal and sagittal panels through `voxel`, in radiological view, black outside the brain mask.

    All volumes are (X, Y, Z) with isotropic voxels and axes closest to RAS+; one pixel is one voxel. Raises
    `InputError` for an empty brain mask.
    """
    from matplotlib import colormaps

    if not brain.any():
        raise InputError("the brain mask is empty, so there is nothing to draw", hint="Check the mask.")
    grey = np.zeros(brain.shape)
    if scan is not None:
        low, high = np.percentile(scan[brain], [1, 99.5])
        grey = np.where(brain, np.clip((scan - low) / (high - low or 1.0), 0, 1), 0)
    score = np.where(brain, anomaly_map, 0) / max(float(anomaly_map[brain].max()), 1e-6)
    hot = colormaps["inferno"](np.clip(score, 0, 1))[..., :3]
    share = 1.0 if scan is None else np.clip((score - FAINT) / (1 - FAINT), 0, 1)[..., None] ** 0.7
    colour = ((1 - share) * grey[..., None] + share * hot) * brain[..., None]
    pixels = (255 * colour).round().astype(np.uint8)
    box = [slice(int(a.min()), int(a.max()) + 1) for a in np.nonzero(brain)]
    return [
        _panel(name, axis, _plane(pixels, box, axis, voxel), affine[axis], voxel, sides_known) for name, axis in PLANES
    ]


def _plane(pixels: NDArray[np.uint8], box: list[slice], axis: int, voxel: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The plane across an axis through a voxel, radiological view."""
    right, up = ACROSS[axis]
    plane = np.take(pixels, voxel[axis], axis=axis)[box[right], box[up]].transpose(1, 0, 2)[::-1]
    return plane if axis == 0 else plane[:, ::-1]  # x runs to the left


def _panel(
    name: str,
    axis: int,
    plane: NDArray[np.uint8],
    row: NDArray[np.float64],
    voxel: tuple[int, int, int],
    sides_known: bool,
) -> Panel:
    """A plane with its title; `row` is the row of the affine for its axis.

    The title names no side of the brain: in the scanner's coordinates, x may be 0 far from the middle of the head.
    """
    mm = row[:3] @ np.array(voxel) + row[3]
    signed = f"{mm:+.0f}" if axis or sides_known else f"±{abs(mm):.0f}"
    return Panel(plane, f"{name} {'xyz'[axis]} {signed}", ends(axis, sides_known))


def side_by_side(found: list[Panel]) -> tuple[str, NDArray[np.uint8]]:
    """The panels side by side: a heading and the pixels (rows, columns, 3), rows even.

    The heading is as wide as the picture: the letters of the sides with the titles between them, or, if a title is too
    long for that, first the titles in lines of their own.
    """
    rows = max(len(panel.pixels) for panel in found)
    rows += rows % 2
    fits = all(len(panel.title) + 4 <= panel.pixels.shape[1] for panel in found)
    heads, columns = [], []
    for panel in found:
        high, wide = panel.pixels.shape[:2]
        left, right = panel.ends
        heads.append(f"{left}{panel.title if fits else '':^{max(wide - 2, 0)}}{right}")
        above = (rows - high) // 2
        columns.append(np.pad(panel.pixels, ((above, rows - high - above), (0, GAP), (0, 0))))
    picture = np.concatenate(columns, axis=1)[:, :-GAP]
    titles = [] if fits else textwrap.wrap(", ".join(panel.title for panel in found), picture.shape[1])
    return "\n".join([*titles, (" " * GAP).join(heads)]), picture
