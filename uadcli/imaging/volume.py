"""Reading scans, with the checks that clinical files need, and writing results on the scan's own grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli import __version__
from uadcli.arrays import Affine, Array
from uadcli.errors import InputError
from uadcli.files import write_with
from uadcli.imaging import header_geometry, not_a_scan
from uadcli.imaging import stored as source
from uadcli.imaging.geometry import from_canonical, nearest_orthonormal, to_canonical
from uadcli.imaging.header_geometry import SHEAR_WARNING_MM
from uadcli.imaging.stored import Stored

SUFFIXES = (".nii.gz", ".nii", ".img.gz", ".img", ".hdr.gz", ".hdr", ".mgz", ".mgh")
MAX_NONFINITE = 0.05  # fraction of voxels inside an image
MAX_BACKGROUND = 0.98  # fraction of voxels around an image


@dataclass(frozen=True)
class Volume:
    """A 3-D array (X, Y, Z) and the affine (4x4) from its voxels to world space in mm, RAS+."""

    data: Array
    affine: Affine

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = self.data.shape
        return x, y, z


@dataclass(frozen=True)
class Scan:
    """A scan as read: the working `volume` (canonical axes, orthonormal affine), and what is needed to go back."""

    path: Path
    sha256: str
    volume: Volume
    orientation: NDArray[np.float64]
    header: Any  # nibabel header of the source
    source_affine: Affine
    source_shape: tuple[int, int, int]
    nonfinite_voxels: int = 0
    sides_known: bool = True  # whether the header or the user defines left and right
    geometry: str = "auto"  # the choice by which its header was read
    warnings: tuple[str, ...] = field(default=())

    @property
    def axes(self) -> str:
        """Directions of the source's axes as letters, e.g. `LPS`."""
        import nibabel as nib

        return "".join(nib.orientations.aff2axcodes(self.source_affine))


def stem(path: Path) -> str:
    """File name without its imaging suffix: `a.b.nii.gz` -> `a.b`."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def read_scan(path: Path, *, volume: int | None = None, geometry: str = "auto", allow_empty: bool = False) -> Scan:
    """Read one scan, check it and bring it to canonical axes with an orthonormal affine.

    `volume` picks one volume (counted from 0) of a 4-D file; `geometry` is as in `header_geometry.place`;
    `allow_empty` lets masks without a voxel pass. Voxels that are NaN or infinite become 0 and are counted.
    Raises `InputError` for everything that cannot be used, with the reason and the remedy.
    """
    not_a_scan.check_name(path, SUFFIXES)
    stored = source.read(path, volume)
    placement = header_geometry.place(stored.layout, path, geometry, stored.matrix)
    data, nonfinite, found = _check_values(stored, path, allow_empty)
    working, moved = nearest_orthonormal(placement.affine, data.shape)
    if moved > SHEAR_WARNING_MM:
        found = (*found, f"the affine is sheared; the nearest orthonormal one moves voxels by up to {moved:.2f} mm")
    turned, turned_affine, orientation = to_canonical(data, working)
    return Scan(
        path=path,
        sha256=stored.sha256,
        volume=Volume(turned, turned_affine),
        orientation=orientation,
        header=stored.layout.header,
        source_affine=placement.affine,
        source_shape=(data.shape[0], data.shape[1], data.shape[2]),
        nonfinite_voxels=nonfinite,
        sides_known=placement.sides_known,
        geometry=geometry,
        warnings=(*stored.warnings, *placement.warnings, *found),
    )


def by_stored_voxels(data: Array, source: Scan, other: Scan) -> Array:
    """`data` (X, Y, Z) of the canonical grid of `source` on that of `other`, which stores the same voxels.

    Without an orientation, file formats assume different ones, so that only the order of the voxels relates them.
    """
    return to_canonical(from_canonical(data, source.orientation), other.source_affine)[0]


def read_companion(path: Path, geometry: str, allow_empty: bool = False, volume: int | None = None) -> Scan:
    """Read a file that belongs to a scan read with `geometry`: with the same, or as it is if its header lacks that.

    `volume` and `allow_empty` are as in `read_scan`, and so are the errors.
    """
    try:
        return read_scan(path, volume=volume, geometry=geometry, allow_empty=allow_empty)
    except header_geometry.MissingFormError:
        return read_scan(path, volume=volume, allow_empty=allow_empty)


def _check_values(stored: Stored, path: Path, allow_empty: bool) -> tuple[Array, int, tuple[str, ...]]:
    """The voxels with 0 instead of non-finite values, the number of these, and warnings about them."""
    values = stored.scaled()
    bad = ~np.isfinite(values)
    count = int(bad.sum())
    share = 100 * count / values.size
    text = f"{count} voxels were not finite and were set to 0"
    if count > MAX_NONFINITE * values.size:
        if not is_background(bad):
            what = f"{share:.0f} % of the voxels are NaN or infinite"
            raise InputError(what, path=path, hint="Convert the scan again.")
        text = f"{count} voxels around the image ({share:.0f} %) are NaN or infinite and were set to 0, as background"
    values[bad] = 0
    low, high = values.min(), values.max()
    if low == high and not allow_empty:
        raise _constant(float(low), path)
    return values, count, (text,) if count else ()


def is_background(bad: NDArray[np.bool_]) -> bool:
    """Whether voxels (X, Y, Z) without a value surround an image, as after cutting out a brain or rotating a scan.

    They then fill nearly all corners of the volume, nearly all are connected to its faces, and an image remains.
    """
    from scipy import ndimage

    if bad[:: bad.shape[0] - 1, :: bad.shape[1] - 1, :: bad.shape[2] - 1].sum() < 6 or bad.mean() > MAX_BACKGROUND:
        return False
    labels, _ = ndimage.label(bad)
    outer = np.unique(np.concatenate([labels.take((0, -1), axis).ravel() for axis in range(3)]))
    inside = bad & ~np.isin(labels, outer)
    return bool(inside.sum() <= MAX_NONFINITE * (~bad).sum())


def _constant(value: float, path: Path) -> InputError:
    what = "all voxels are zero" if value == 0 else f"all voxels have the same value ({value:g})"
    return InputError(what, path=path, hint="The file contains no image; convert it again.")


def write_native(path: Path, data: Array, scan: Scan, *, dtype: type = np.float32, name: str = "") -> None:
    """Write `data` (X, Y, Z), on the canonical grid of `scan`, as NIfTI on the scan's own grid.

    Affine, sform and qform (codes and matrices), voxel sizes and units are exactly the source's. Free text fields and
    header extensions of the source are left out, as they may name a patient. Raises `OutputError`.
    """
    import nibabel as nib

    native: NDArray[Any] = from_canonical(data, scan.orientation).astype(dtype)
    kind = nib.Nifti2Image if isinstance(scan.header, nib.Nifti2Header) else nib.Nifti1Image
    if isinstance(scan.header, nib.Nifti1Header):
        header = kind.header_class.from_header(scan.header, check=False)
        header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset  # of a pair, too
    else:
        header = _header_of(scan, native.shape)
    write_image(path, kind, native, header, name)


def _header_of(scan: Scan, shape: tuple[int, ...]) -> Any:
    """A NIfTI header for a scan of another format: its affine, with code 0 if left and right are unknown."""
    import nibabel as nib

    header, code = nib.Nifti1Header(), int(scan.sides_known)
    header.set_data_shape(shape)
    header.set_xyzt_units("mm")
    header.set_qform(scan.source_affine, code)  # voxel sizes too
    header.set_sform(scan.source_affine, code)
    return header


def write_mni(path: Path, volume: Volume, *, dtype: type = np.float32, name: str = "") -> None:
    """Write a volume on the MNI grid as NIfTI, sform and qform code 4 (MNI). Raises `OutputError`."""
    import nibabel as nib

    image = nib.Nifti1Image(volume.data.astype(dtype), volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, 4)
    image.set_qform(volume.affine, 4)
    write_image(path, nib.Nifti1Image, volume.data.astype(dtype), image.header, name)


def write_image(path: Path, kind: Any, data: NDArray[Any], header: Any, name: str) -> None:
    """Write one NIfTI file atomically, `data` (X, Y, Z) with sform and qform as in the header. Raises `OutputError`.

    The description is the tool's own; `name` becomes the intent name.
    """
    header = header.copy()
    header.extensions.clear()
    header.set_data_shape(data.shape)
    header.set_data_dtype(data.dtype)
    for text in (name for name in header.keys() if header[name].dtype.kind == "S"):  # noqa: SIM118, no dictionary
        if text not in ("magic", "regular"):
            header[text] = b""
    header["descrip"] = f"uad {__version__} research use only".encode()
    header["intent_name"] = name.encode()[:15]
    header["intent_code"] = 0
    header["cal_min"], header["cal_max"] = 0, 0
    image = kind(data, None, header)
    image.header["scl_slope"], image.header["scl_inter"] = 1, 0
    write_with(path, lambda temporary: nib_save(image, temporary))


def nib_save(image: Any, path: Path) -> None:
    """Save with nibabel, slope 1 and intercept 0: data already have their final type."""
    image.header.set_slope_inter(1, 0)
    image.to_filename(str(path))
