"""The two check pictures of a page: brain mask and registration."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.report.phrases import ends
from uadcli.report.preview import ACROSS, INK, MARK, PAPER

FLUID, WHITE = 1, 3  # tissue classes of the template: cerebrospinal fluid, grey matter, white matter
CUTS = (
    (2, 0.35),
    (2, 0.6),
    (1, 0.4),
    (1, 0.65),
    (0, 0.32),
    (0, 0.56),
)  # axis, place between first and last slice
PANEL_IN, DPI = 2.0, 100
Lines = tuple[tuple[NDArray[np.bool_], str], ...]


def mask_picture(
    scan: NDArray[np.float32],
    brain: NDArray[np.bool_],
    template_brain: NDArray[np.bool_],
    affine: NDArray[np.float64],
    sides_known: bool = True,
) -> bytes:
    """PNG of the scan (X, Y, Z; 0..1) inside its brain mask, with the outline of the template's brain."""
    return _picture(scan, brain, ((template_brain, "#38d9ff"),), affine, sides_known)


def registration_picture(
    scan: NDArray[np.float32],
    brain: NDArray[np.bool_],
    tissue: NDArray[np.uint8],
    affine: NDArray[np.float64],
    sides_known: bool = True,
) -> bytes:
    """PNG of the scan (X, Y, Z; 0..1) inside its brain mask, with outlines of the template's fluid and white matter."""
    lines: Lines = ((tissue == WHITE, "#ffd24a"), (tissue == FLUID, "#38a0ff"))
    return _picture(scan, brain, lines, affine, sides_known)


def _picture(
    scan: NDArray[np.float32], brain: NDArray[np.bool_], lines: Lines, affine: NDArray[np.float64], sides_known: bool
) -> bytes:
    """A row of cuts, spread over what the first of the lines outlines.

    Volumes are on the model's grid, with axes to the right, front and top.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (len(CUTS) * PANEL_IN, PANEL_IN + 0.2)
    figure = Figure(figsize=size, facecolor=PAPER)
    FigureCanvasAgg(figure)
    hidden = np.where(brain, np.clip(scan, 0, 1), 0)
    for column, (axis, part) in enumerate(CUTS):
        filled = np.flatnonzero(lines[0][0].any(axis=tuple(a for a in range(3) if a != axis)))
        index = round(float(filled[0] + part * (filled[-1] - filled[0]))) if filled.size else hidden.shape[axis] // 2
        axes = figure.add_axes(((column + 0.01) / len(CUTS), 0, 0.98 / len(CUTS), PANEL_IN / size[1]))
        _panel(axes, hidden, lines, axis, index, sides_known)
        mm = affine[axis, axis] * index + affine[axis, 3]
        side = "" if axis or not sides_known else " (left)" if mm < 0 else " (right)"
        signed = f"{mm:+.0f}" if axis or sides_known else f"±{abs(mm):.0f}"
        axes.set_title(f"{'xyz'[axis]} = {signed} mm{side}", color=INK, fontsize=8, pad=3)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI, facecolor=PAPER, metadata={"Software": "uad"})
    return stream.getvalue()


def _panel(axes: Any, scan: NDArray[np.float32], lines: Lines, axis: int, index: int, sides_known: bool) -> None:
    """One slice as in the overlay, in radiological view."""

    def cut(volume: NDArray[Any]) -> NDArray[Any]:
        plane = np.take(volume, index, axis=axis).T
        return plane[:, ::-1] if axis != 0 else plane

    axes.imshow(cut(scan), cmap="gray", vmin=0, vmax=1, origin="lower", interpolation="bilinear")
    for mask, colour in lines:
        plane = cut(mask)
        if plane.any() and not plane.all():
            axes.contour(plane.astype(float), [0.5], colors=colour, linewidths=0.7)
    axes.set_facecolor("black")
    axes.set_axis_off()
    wide, high = (scan.shape[a] for a in ACROSS[axis])
    axes.set_xlim(-0.5, wide - 0.5)
    axes.set_ylim(-0.5, high - 0.5)
    for x, letter, side in zip((0.01, 0.99), ends(axis, sides_known), ("left", "right"), strict=True):
        axes.text(x, 0.98, letter, transform=axes.transAxes, color=MARK, fontsize=9, ha=side, va="top", weight="bold")
