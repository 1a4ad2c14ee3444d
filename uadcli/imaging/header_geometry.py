"""From a header to world space: the affine in mm, and whether left and right are known."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Affine
from uadcli.errors import InputError
from uadcli.imaging import formats
from uadcli.imaging.formats import Layout
from uadcli.imaging.geometry import apply, corners, spacing

UNITS = {1: ("metres", 1e3), 3: ("microns", 1e-3)}  # codes of xyzt_units (NIfTI-1), and mm in one
SPACING_MM = (0.05, 30.0)  # plausible voxel sizes of a head scan
SHORTEST_MM = 40.0  # field of view along an axis, needed for registration
LONGEST_MM = 600.0  # field of view along an axis
FARTHEST_MM = 1e7  # distance of the grid from the origin: single precision ends there
SHEAR_WARNING_MM = 0.1
CORONAL = np.array([[-1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # FreeSurfer's directions where a header has none
SET_UNIT = "Correct the voxel size or the unit in its header (xyzt_units 2 is mm)."
UNKNOWN = "left and right are unknown, and no side is given (--geometry trust if you have checked them)"


OPTIONS = re.compile(r"(, and no side is given)? \(--geometry [^)]*\)")  # what `uad detect` does and offers


class MissingFormError(InputError):
    """The header has no such geometry as was asked for."""


@dataclass(frozen=True)
class Placement:
    """The affine (4x4) from voxels to world points (mm, RAS+), and whether the header defines left and right."""

    affine: Affine
    sides_known: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Form:
    """One of the two geometries of a NIfTI header; `affine` is None if it is not set or not usable."""

    name: str
    affine: Affine | None
    code: int


def place(layout: Layout, path: Path, geometry: str = "auto", matrix: bytes | None = None) -> Placement:
    """The affine of a scan from its header.

    `geometry` is `auto` (sform, else qform), `sform`, `qform`, or `trust`: like `auto`, but an orientation that the
    header marks as unknown is accepted. `matrix` is the content of the .mat file next to an Analyze file (SPM).
    Raises `InputError` for an affine that cannot belong to a head scan, and as `MissingFormError` if there is none.
    """
    with np.errstate(all="ignore"):
        if layout.kind in (formats.NIFTI1, formats.NIFTI2):
            found = _nifti(layout, path, geometry)
        elif geometry in ("sform", "qform"):
            raise MissingFormError(f"has no {geometry}", path=path, hint="Leave --geometry out for this file type.")
        else:
            found = _mgh(layout) if layout.kind == formats.MGH else _analyze(layout, path, matrix)
        check(found.affine, layout.shape, path)
    if geometry == "trust":
        found = Placement(found.affine, True, tuple(w for w in found.warnings if not w.endswith(UNKNOWN)))
    return found


def without_options(warning: str) -> str:
    """A warning of `place` for a command without `--geometry`: what is the matter, not what `uad detect` offers."""
    return OPTIONS.sub("", warning)


def check(affine: Affine, shape: tuple[int, ...], path: Path) -> None:
    """Raises `InputError` for an affine (4x4, mm) that is not finite, singular, or implausible in size or position."""
    other = "Convert the scan again, or try `uad detect --geometry qform`."
    if not np.isfinite(affine).all():
        raise InputError("the affine is not finite", path=path, hint=other)
    size = spacing(affine)
    if size.min() <= 1e-9 or abs(np.linalg.det(affine[:3, :3] / size)) < 0.05:
        raise InputError("the affine is singular", path=path, hint=other)
    sizes = " x ".join(f"{s:.3g}" for s in size)
    if size.min() < SPACING_MM[0] or size.max() > SPACING_MM[1]:
        what = f"has voxels of {sizes} mm; plausible are {SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm"
        raise InputError(what, path=path, hint=SET_UNIT)
    extent = size * shape[:3]
    if extent.max() > LONGEST_MM:
        what = (
            f"covers {extent.max():.0f} mm along one axis (voxels of {sizes} mm); plausible are up to {LONGEST_MM:g} mm"
        )
        raise InputError(what, path=path, hint=SET_UNIT)
    if np.abs(apply(affine, corners(shape))).max() > FARTHEST_MM:
        raise InputError("is more than 10 km from the origin of its space", path=path, hint=other)


def check_coverage(affine: Affine, shape: tuple[int, ...], path: Path) -> None:
    """Raises `InputError` if the field of view, by an affine (4x4, mm), is too short along an axis to be registered."""
    extent = spacing(affine) * shape[:3]
    if extent.min() < SHORTEST_MM:
        size = " x ".join(f"{mm:.0f}" for mm in extent)
        what = f"covers {size} mm, too little to find a brain in; at least {SHORTEST_MM:g} mm are needed"
        raise InputError(what, path=path, hint=SET_UNIT)


def _nifti(layout: Layout, path: Path, geometry: str) -> Placement:
    header = layout.header
    scale, warnings = _unit(header)
    forms = [_form(name, header, scale) for name in ("sform", "qform")]
    if geometry in ("sform", "qform"):
        chosen = next(form for form in forms if form.name == geometry)
        if chosen.affine is None:
            other = "qform" if geometry == "sform" else "sform"
            raise MissingFormError(f"has no usable {geometry}", path=path, hint=f"Use --geometry {other} or auto.")
        return Placement(chosen.affine, True, warnings)
    first = next((form for form in forms if form.code), None)
    if first is None:
        affine = _by_size(layout, header.get_zooms(), scale, header.default_x_flip)
        text = f"the header gives no orientation (sform and qform code 0): {UNKNOWN}"
        return Placement(affine, False, (*warnings, text))
    if first.affine is None:
        raise InputError(f"its {first.name} is not usable", path=path, hint="Convert the scan again.")
    known, more = _compared(forms, layout.shape)
    return Placement(first.affine, known, (*warnings, *more))


def _unit(header: Any) -> tuple[float, tuple[str, ...]]:
    """Millimetres per unit of the header, and a warning if the unit is not mm."""
    unit = UNITS.get(int(header["xyzt_units"]) & 7)
    return (1.0, ()) if unit is None else (unit[1], (f"the header's unit is {unit[0]}; its sizes are converted to mm",))


def _form(name: str, header: Any, scale: float) -> _Form:
    code = int(header[f"{name}_code"])
    if code <= 0:
        return _Form(name, None, 0)
    try:
        affine = np.asarray(header.get_sform() if name == "sform" else header.get_qform(), dtype=np.float64)
    except (
        Exception
    ):  # nibabel raises several kinds for a quaternion longer than 1: the form is unusable, which is reported
        return _Form(name, None, code)
    return _Form(name, np.diag([scale, scale, scale, 1.0]) @ affine, code)


def _compared(forms: list[_Form], shape: tuple[int, ...]) -> tuple[bool, tuple[str, ...]]:
    """Whether sform and qform agree on left and right, and a warning if they differ at all."""
    sform, qform = (form.affine for form in forms)
    if sform is None or qform is None or not np.isfinite(sform).all() or not np.isfinite(qform).all():
        return True, ()
    if _mirrored(sform, qform):
        return False, (f"sform and qform disagree about the patient's sides (--geometry sform or qform): {UNKNOWN}",)
    gap = np.linalg.norm(apply(sform, corners(shape)) - apply(qform, corners(shape)), axis=1).max()
    if gap <= SHEAR_WARNING_MM:
        return True, ()
    return True, (f"sform and qform differ by up to {gap:.2f} mm; the sform is used (--geometry qform)",)


def _mirrored(one: Affine, other: Affine) -> bool:
    """Whether one affine is the mirror image of the other, so that left is right in one of them."""
    return bool(np.linalg.det(one[:3, :3]) * np.linalg.det(other[:3, :3]) < 0)


def _by_size(layout: Layout, zooms: Any, scale: float, flip: bool) -> Affine:
    """The affine that nibabel assumes without an orientation: along the world axes, centred, x flipped if `flip`."""
    from nibabel.volumeutils import shape_zoom_affine

    sizes = np.abs(np.asarray(zooms[:3], dtype=np.float64)) * scale
    return np.asarray(shape_zoom_affine(layout.shape[:3], sizes, flip), dtype=np.float64)


def _analyze(layout: Layout, path: Path, matrix: bytes | None) -> Placement:
    if matrix:
        return _by_matrix(path, matrix)
    affine = np.asarray(layout.header.get_best_affine(), dtype=np.float64)
    return Placement(affine, False, (f"an Analyze header has no orientation: {UNKNOWN}",))


def _by_matrix(path: Path, content: bytes) -> Placement:
    """SPM's .mat: `mat` with the flip of the x axis, or the older `M` without it; voxels counted from 1."""
    from scipy.io import loadmat

    try:
        stored = loadmat(io.BytesIO(content), variable_names=["mat", "M"])
        flipped = "mat" in stored
        first = np.asarray(stored["mat"] if flipped else stored["M"], dtype=np.float64)
        affine = (first if flipped else np.diag([-1.0, 1, 1, 1]) @ first).reshape(4, 4, -1)[:, :, 0]
    except Exception as error:  # scipy raises many kinds for a damaged file
        what = "is not a readable SPM matrix"
        raise InputError(what, path=path.with_suffix(".mat"), hint="Remove it, or convert the scan again.") from error
    from_zero = np.eye(4)
    from_zero[:3, 3] = 1
    text = f"the .mat file next to it does not say whether the x axis is flipped: {UNKNOWN}"
    return Placement(affine @ from_zero, flipped, () if flipped else (text,))


def _mgh(layout: Layout) -> Placement:
    """FreeSurfer's affine: directions times spacing, about the centre of the volume.

    Without `goodRASFlag` the fields may be wrong; they are used if they form an affine, otherwise FreeSurfer's default
    (1 mm, coronal slices).
    """
    header = layout.header
    affine = np.asarray(header.get_affine(), dtype=np.float64)
    if int(header["goodRASFlag"]):
        return Placement(affine, True)
    if not _usable(affine):
        affine = np.eye(4)
        affine[:3, :3] = CORONAL
        affine[:3, 3] = -CORONAL @ np.array(layout.shape[:3]) / 2
        text = f"the header gives neither voxel sizes (1 mm is assumed) nor an orientation: {UNKNOWN}"
        return Placement(affine, False, (text,))
    return Placement(affine, False, (f"the header marks its orientation as unknown (goodRASFlag 0): {UNKNOWN}",))


def _usable(affine: NDArray[np.float64]) -> bool:
    size = spacing(affine)
    if not np.isfinite(affine).all() or size.min() < SPACING_MM[0] or size.max() > SPACING_MM[1]:
        return False
    return bool(abs(np.linalg.det(affine[:3, :3] / size)) > 0.9)
