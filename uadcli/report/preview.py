"""The picture of a result: three planes, the map over the scan, colour bar, left and right marked."""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.errors import OutputError

COLUMNS = 6
INK, PAPER = "#d8d8d8", "#101010"
PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))


def render_overlay(
    path: Path,
    scan: NDArray[np.float32],
    anomaly_map: NDArray[np.float32],
    anomaly_mask: NDArray[np.bool_],
    brain_mask: NDArray[np.bool_],
    affine: NDArray[np.float64],
    threshold: float,
    title: str,
) -> None:
    """Draw the overlay as PNG; all volumes (X, Y, Z), RAS+ axes, isotropic.

    Only voxels inside the brain mask are drawn, so that no face appears. Axial and coronal views are radiological:
    the patient's right is on the image's left. Raises `OutputError`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    scan = np.where(brain_mask, scan, 0)
    box = _bounding_box(brain_mask)
    low, high = np.percentile(scan[brain_mask], [1, 99.5])
    norm = Normalize(0, max(3 * threshold, float(anomaly_map.max()) * 0.6, 1e-6))
    figure = Figure(figsize=(12, 6.9), facecolor=PAPER)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, COLUMNS, left=0.035, right=0.915, top=0.9, bottom=0.065, wspace=0.02, hspace=0.1)
    for row, (name, axis) in enumerate(PLANES):
        for column, index in enumerate(_positions(anomaly_mask, brain_mask, axis)):
            axes = figure.add_subplot(grid[row, column])
            cut = _cut(axis, index, box)
            mm = affine[axis, :3] @ _voxel(axis, index, box) + affine[axis, 3]
            _panel(axes, scan[cut], anomaly_map[cut], anomaly_mask[cut], brain_mask[cut], (low, high), norm, threshold)
            axes.set_title(f"{'xyz'[axis]} = {mm:+.0f} mm", color=INK, fontsize=7, pad=2)
            if column == 0:
                left, right = ("P", "A") if axis == 0 else ("R", "L")
                axes.text(0.02, 0.5, left, transform=axes.transAxes, color="#ffd24a", fontsize=10, va="center")
                axes.text(0.93, 0.5, right, transform=axes.transAxes, color="#ffd24a", fontsize=10, va="center")
                axes.text(-0.06, 0.5, name, transform=axes.transAxes, color=INK, fontsize=8, rotation=90, va="center")
    _frame(figure, norm, threshold, title)
    _save(figure, path)


def _bounding_box(mask: NDArray[np.bool_], margin: int = 4) -> tuple[slice, ...]:
    inside = np.argwhere(mask)
    start, stop = np.maximum(inside.min(axis=0) - margin, 0), inside.max(axis=0) + margin + 1
    return tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))


def _positions(found: NDArray[np.bool_], brain: NDArray[np.bool_], axis: int) -> list[int]:
    """Slices spread over the brain; the nearest one is moved onto the slice with most of the findings."""
    others = tuple(a for a in range(3) if a != axis)
    extent = np.flatnonzero(brain.any(axis=others))
    places = np.linspace(*np.percentile(extent, [12, 88]), COLUMNS).round().astype(int)
    if found.any():
        top = int(np.argmax(found.sum(axis=others)))
        places[np.argmin(np.abs(places - top))] = top
    return [int(p) for p in places]


def _cut(axis: int, index: int, box: tuple[slice, ...]) -> tuple[Any, ...]:
    return tuple(index if a == axis else part for a, part in enumerate(box))


def _voxel(axis: int, index: int, box: tuple[slice, ...]) -> NDArray[np.float64]:
    return np.array([index if a == axis else (part.start + part.stop - 1) / 2 for a, part in enumerate(box)])


def _panel(axes: Any, scan: Any, score: Any, found: Any, brain: Any, window: Any, norm: Any, threshold: float) -> None:
    """One slice. Images are shown transposed, first axis to the right; x is turned for the radiological view."""
    radiological = scan.shape[0] > 0 and axes.get_subplotspec().rowspan.start < 2
    show = [a.T[:, ::-1] if radiological else a.T for a in (scan, score, found, brain)]
    axes.imshow(show[0], cmap="gray", vmin=window[0], vmax=window[1], origin="lower", interpolation="bilinear")
    strength = np.clip(show[1] / max(threshold, 1e-6), 0, 1) ** 2 * 0.8 * show[3]
    axes.imshow(show[1], cmap="inferno", norm=norm, alpha=strength, origin="lower", interpolation="nearest")
    if show[2].any():
        axes.contour(show[2].astype(float), levels=[0.5], colors="#38d9ff", linewidths=0.7)
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])


def _frame(figure: Any, norm: Any, threshold: float, title: str) -> None:
    from matplotlib.cm import ScalarMappable

    place = figure.add_axes((0.935, 0.2, 0.013, 0.55))
    bar = figure.colorbar(ScalarMappable(norm, "inferno"), cax=place)
    bar.ax.tick_params(colors=INK, labelsize=7)
    bar.ax.axhline(threshold, color="#38d9ff", linewidth=1.5)
    bar.set_label("anomaly score (blue: threshold)", color=INK, fontsize=8)
    short = title if len(title) <= 80 else f"{title[:50]}...{title[-25:]}"
    # parse_math off: a file name with $ signs is no formula
    figure.text(0.035, 0.95, short, color="white", fontsize=11, parse_math=False)
    note = "Radiological view: the patient's right is on the left. Research use only, not a medical device."
    figure.text(0.035, 0.022, note, color=INK, fontsize=8)


def _save(figure: Any, path: Path) -> None:
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp.png")
    try:
        figure.savefig(temporary, dpi=110, facecolor=PAPER, metadata={"Software": "uad"})
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", path=path, hint="Check rights and space.") from error
    finally:
        temporary.unlink(missing_ok=True)
