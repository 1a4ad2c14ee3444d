"""The overlay picture: three planes with the map over the scan, a colour bar, and left and right labelled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.errors import InputError
from uadcli.files import write_with
from uadcli.report.markup import readable
from uadcli.report.phrases import SIDES_UNKNOWN, ends

COLUMNS = 6
WIDTH_IN, DPI = 12.0, 110
LEFT, RIGHT, TOP_IN, BOTTOM_IN = 0.045, 0.915, 0.68, 0.5  # margins: fractions of the width, inches of the height
TITLE_IN, GAP_IN = 0.2, 0.05  # above each panel, and between panels
INK, FAINT, PAPER, MARK, EDGE = "#e0e0e0", "#9a9a9a", "#101010", "#ffd24a", "#38d9ff"
PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))
ACROSS = {2: (0, 1), 1: (0, 2), 0: (1, 2)}  # the axes that a plane shows, to the right and upwards
VIEW = "Radiological view: the patient's right (R) is on the image's left."
NOTE = "Only the brain is drawn. Research use only, not a medical device."


@dataclass(frozen=True)
class Overlay:
    """What an overlay shows; all volumes are (X, Y, Z), with axes close to RAS+ and any spacing.

    A finding needs a voxel above the `threshold`; with an `extent`, it reaches to connected voxels above that.
    `further` are the patient's other contrasts on the same grid by name, 0 where they have no brain: each is shown in
    axial slices with the outline of the findings.
    """

    scan: NDArray[np.float32]
    anomaly_map: NDArray[np.float32]
    anomaly_mask: NDArray[np.bool_]
    brain_mask: NDArray[np.bool_]
    affine: NDArray[np.float64]
    threshold: float
    title: str
    sides_known: bool = True
    extent: float | None = None
    further: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def size_mm(self) -> NDArray[np.float64]:
        """Field of view along each axis, shape (3,)."""
        return np.array(self.scan.shape) * np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def lowest(self) -> float:
        """The score that every marked voxel lies above."""
        return self.threshold if self.extent is None else self.extent


@dataclass(frozen=True)
class _Scene:
    """An overlay cropped to the brain, the range of intensities from black to white, and the colour scale."""

    of: Overlay
    window: tuple[float, float]
    norm: Any


def render_overlay(path: Path, overlay: Overlay) -> None:
    """Draw an overlay as PNG.

    Only voxels inside the brain mask are drawn, so that no face appears. Axial and coronal views are radiological: the
    patient's right is on the image's left; without `sides_known` sides are not labelled. Raises `InputError` for an
    empty brain mask, and `OutputError`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not overlay.brain_mask.any():
        raise InputError("the brain mask is empty, so there is nothing to draw", hint="Check the mask.")
    scene = _scene(overlay)
    shown = scene.of
    width = (RIGHT - LEFT) * WIDTH_IN / COLUMNS
    scale = min((width - GAP_IN) / shown.size_mm[ACROSS[axis][0]] for _, axis in PLANES)  # inches per mm, one for all
    rows = [(name, axis, scene) for name, axis in PLANES]
    rows += [(f"axial, {name}", 2, _seen_in(scene, scan)) for name, scan in shown.further.items()]
    heights = [scale * shown.size_mm[ACROSS[axis][1]] for _, axis, _ in rows]
    total = TOP_IN + BOTTOM_IN + sum(h + TITLE_IN + GAP_IN for h in heights)
    figure = Figure(figsize=(WIDTH_IN, total), facecolor=PAPER)
    FigureCanvasAgg(figure)
    top = total - TOP_IN
    for (name, axis, seen), height in zip(rows, heights, strict=True):
        top -= TITLE_IN + height
        figure.text(0.018, (top + height / 2) / total, name, color=INK, fontsize=10, rotation=90, va="center")
        wide = scale * shown.size_mm[ACROSS[axis][0]]
        for column, index in enumerate(_positions(shown.anomaly_mask, shown.brain_mask, axis)):
            start = LEFT * WIDTH_IN + column * width + (width - wide) / 2
            axes = figure.add_axes((start / WIDTH_IN, top / total, wide / WIDTH_IN, height / total))
            _panel(axes, seen, axis, index)
        top -= GAP_IN
    _frame(figure, scene, total)
    _save(figure, path)


def _scene(of: Overlay) -> _Scene:
    """Crop all volumes to the brain with a margin, and blank everything outside the brain mask."""
    from matplotlib.colors import Normalize

    brain, affine = of.brain_mask > 0, of.affine.copy()
    margin = np.ceil(6 / np.linalg.norm(affine[:3, :3], axis=0)).astype(int)
    inside = np.argwhere(brain)
    start, stop = np.maximum(inside.min(axis=0) - margin, 0), inside.max(axis=0) + margin + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    affine[:3, 3] += affine[:3, :3] @ start
    low, high = (float(p) for p in np.percentile(of.scan[brain], [1, 99.5]))
    kept = brain[box]
    cropped = replace(
        of,
        scan=np.where(kept, of.scan[box], low).astype(np.float32),
        anomaly_map=np.where(kept, of.anomaly_map[box], 0).astype(np.float32),
        anomaly_mask=(of.anomaly_mask[box] > 0) & kept,
        brain_mask=kept,
        affine=affine,
        further={name: np.where(kept, scan[box], 0).astype(np.float32) for name, scan in of.further.items()},
    )
    top = max(1.6 * of.threshold, float(of.anomaly_map[brain].max()), 1e-6)
    return _Scene(cropped, (low, high if high > low else low + 1), Normalize(0, top))


def _seen_in(scene: _Scene, scan: NDArray[np.float32]) -> _Scene:
    """The same outlines over another contrast, without the colours of the map."""
    of, inside = scene.of, scene.of.brain_mask & (scan != 0)
    low, high = (float(p) for p in np.percentile(scan[inside], [1, 99.5])) if inside.any() else (0.0, 1.0)
    shown = np.where(inside, scan, low).astype(np.float32)
    bare = replace(of, scan=shown, anomaly_map=np.zeros_like(of.anomaly_map))
    return _Scene(bare, (low, high if high > low else low + 1), scene.norm)


def _positions(found: NDArray[np.bool_], brain: NDArray[np.bool_], axis: int) -> list[int]:
    """Slices spread over the brain; those nearest to the largest findings are moved to their largest sections."""
    from scipy import ndimage

    others = tuple(a for a in range(3) if a != axis)
    first, last = np.percentile(np.flatnonzero(brain.any(axis=others)), [12, 88])
    places = np.linspace(first, last, COLUMNS).round().astype(int)
    labels, count = ndimage.label(found, structure=np.ones((3, 3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    free = list(range(COLUMNS))
    for index in np.argsort(-sizes, kind="stable")[: COLUMNS // 2] + 1:
        top = int(np.argmax((labels == index).sum(axis=others)))
        if top not in places:
            nearest = min(free, key=lambda column: abs(int(places[column]) - top))
            places[nearest] = top
            free.remove(nearest)
    return sorted(int(p) for p in places)


def _panel(axes: Any, scene: _Scene, axis: int, index: int) -> None:
    """One slice, transposed so that the first axis runs to the right, in radiological view."""
    cut = tuple(index if a == axis else slice(None) for a in range(3))
    of = scene.of
    scan, score, found, brain = (v[cut].T for v in (of.scan, of.anomaly_map, of.anomaly_mask, of.brain_mask))
    wide, high = (of.size_mm[a] for a in ACROSS[axis])
    if axis != 0:
        scan, score, found, brain = (v[:, ::-1] for v in (scan, score, found, brain))
    place: dict[str, Any] = {"origin": "lower", "extent": (0, wide, 0, high), "aspect": "auto"}
    grey = {"vmin": scene.window[0], "vmax": scene.window[1]}
    axes.imshow(np.where(brain, scan, scene.window[0]), cmap="gray", interpolation="bilinear", **grey, **place)
    strength = np.clip(score / max(of.lowest, 1e-6), 0, 1) ** 3  # faint where nothing is marked
    alpha = np.where(score > of.lowest, 0.85, 0.45 * strength) * brain
    axes.imshow(score, cmap="inferno", norm=scene.norm, alpha=alpha, interpolation="nearest", **place)
    if found.any():
        edges = {"origin": "lower", "extent": place["extent"]}  # without an origin, an extent would be that of centres
        axes.contour(found.astype(float), [0.5], colors=EDGE, linewidths=0.9, **edges)
    axes.set_facecolor("black")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(0, wide)
    axes.set_ylim(0, high)
    for spine in axes.spines.values():
        spine.set_visible(False)
    centre = [(n - 1) / 2 for n in of.scan.shape]
    centre[axis] = index
    mm = of.affine[axis, :3] @ centre + of.affine[axis, 3]
    signed = f"{mm:+.0f}" if axis or of.sides_known else f"±{abs(mm):.0f}"
    axes.set_title(f"{'xyz'[axis]} = {signed} mm", color=INK, fontsize=8, pad=3)
    for x, letter in zip((0.015, 0.985), ends(axis, of.sides_known), strict=True):
        side = "left" if x < 0.5 else "right"
        axes.text(x, 0.97, letter, transform=axes.transAxes, color=MARK, fontsize=9, ha=side, va="top", weight="bold")


def _frame(figure: Any, scene: _Scene, height_in: float) -> None:
    """Title, note and the colour bar with threshold and extent."""
    from matplotlib.cm import ScalarMappable

    of = scene.of
    bar = figure.colorbar(ScalarMappable(scene.norm, "inferno"), cax=figure.add_axes((0.935, 0.22, 0.013, 0.54)))
    bar.ax.tick_params(colors=INK, labelsize=8)
    bar.outline.set_edgecolor(FAINT)
    bar.set_label("anomaly score", color=INK, fontsize=9)
    limits = [("threshold", of.threshold, "solid"), ("extent", of.extent, "dotted")]
    known = [(name, value, style) for name, value, style in limits if value is not None]
    for _, value, style in known:
        if scene.norm.vmin <= value <= scene.norm.vmax:
            bar.ax.axhline(value, color=EDGE, linewidth=2, linestyle=style)
    text = "\n".join(f"{name}\n{value:.3g}" for name, value, _ in known)
    figure.text(0.9415, 0.19, text, color=EDGE, fontsize=8, ha="center", va="top")
    title = str(readable(of.title))
    short = title if len(title) <= 80 else f"{title[:50]}...{title[-25:]}"
    # parse_math off: a file name with $ signs is not a formula
    top = 1 - 0.33 / height_in
    figure.text(LEFT, top, short, color="white", fontsize=12, va="center", parse_math=False)
    found = bool(of.anomaly_mask.any())
    marked = "outlined: marked as anomalous" if found else "nothing is marked (this does not mean healthy)"
    figure.text(RIGHT, top, marked, color=EDGE if found else INK, fontsize=9, va="center", ha="right")
    note = f"{VIEW if of.sides_known else SIDES_UNKNOWN} {NOTE}"
    figure.text(LEFT, 0.2 / height_in, note, color=INK, fontsize=9, va="center")


def _save(figure: Any, path: Path) -> None:
    def write(temporary: Path) -> None:
        figure.savefig(temporary, format="png", dpi=DPI, facecolor=PAPER, metadata={"Software": "uad"})

    write_with(path, write)
