"""Reading scans with every check a clinical file needs, and writing results on the scan's own grid."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uadcli import __version__
from uadcli.arrays import Affine, Array
from uadcli.errors import InputError
from uadcli.files import file_sha256, write_with
from uadcli.imaging.geometry import apply, corners, from_canonical, nearest_orthonormal, same_grid, to_canonical

SUFFIXES = (".nii.gz", ".nii", ".img.gz", ".img", ".hdr.gz", ".hdr", ".mgz", ".mgh")
MIN_VOXELS = 16  # per axis; fewer slices cannot be placed in an atlas
MAX_NONFINITE = 0.05  # fraction of voxels
SHEAR_WARNING_MM = 0.1
NOT_A_SCAN = "Give a NIfTI (.nii, .nii.gz, .img/.hdr) or .mgz file."


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
    """A scan as read: the working `volume` (canonical axes, orthonormal affine) and all that is needed to go back."""

    path: Path
    sha256: str
    volume: Volume
    orientation: NDArray[np.float64]
    header: Any  # nibabel header of the source
    source_affine: Affine
    source_shape: tuple[int, int, int]
    nonfinite_voxels: int = 0
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

    `volume` picks one volume (counted from 0) of a 4-D file; `geometry` is `auto` (sform, else qform), `sform` or
    `qform`; `allow_empty` lets masks without a voxel pass. Voxels that are NaN or infinite become 0 and are counted.
    Raises `InputError` for everything that cannot be used, with the reason and the remedy.
    """
    image = _open(path)
    warnings: list[str] = []
    affine = _choose_affine(image, path, geometry, warnings)
    data = _pick_volume(_load(image, path), path, volume)
    data, nonfinite = _check_values(data, path, allow_empty)
    if nonfinite:
        warnings.append(f"{nonfinite} voxels were not finite and were set to 0")
    working, moved = nearest_orthonormal(affine, data.shape)
    if moved > SHEAR_WARNING_MM:
        warnings.append(f"the affine is sheared; the nearest orthonormal one moves voxels by up to {moved:.2f} mm")
    turned, turned_affine, orientation = to_canonical(data, working)
    return Scan(
        path=path,
        sha256=file_sha256(path),
        volume=Volume(turned, turned_affine),
        orientation=orientation,
        header=image.header,
        source_affine=affine,
        source_shape=(data.shape[0], data.shape[1], data.shape[2]),
        nonfinite_voxels=nonfinite,
        warnings=tuple(warnings),
    )


def read_labels(path: Path, scan: Scan, what: str = "the label mask", allow_empty: bool = False) -> NDArray[np.bool_]:
    """A mask on the canonical grid of a scan, within 1 mm.

    Raises `InputError` if it is on another grid or, without `allow_empty`, has no voxel.
    """
    own, of_scan = read_scan(path, allow_empty=allow_empty).volume, scan.volume
    if not same_grid(own.shape, own.affine, of_scan.shape, of_scan.affine, 1.0):
        raise InputError(f"{what} is on another grid than the scan", path=path, hint="Resample it to the scan.")
    return np.asarray(own.data > 0)


def _open(path: Path) -> Any:
    import nibabel as nib

    if path.is_dir():
        dicom = any(p.suffix.lower() in {".dcm", ".ima"} or p.name == "DICOMDIR" for p in path.iterdir())
        what = "is a folder of DICOM files" if dicom else "is a folder, not a scan"
        raise InputError(what, path=path, hint="Convert DICOM with `dcm2niix -z y FOLDER` and give the .nii.gz file.")
    if not path.exists():
        raise InputError("no such file", path=path, hint="Check the path.")
    if path.suffix.lower() in {".dcm", ".ima"}:
        raise InputError("is a DICOM file", path=path, hint="Convert its folder with `dcm2niix -z y FOLDER`.")
    if not path.name.lower().endswith(SUFFIXES):
        raise InputError("is not a NIfTI or MGH file by its name", path=path, hint=NOT_A_SCAN)
    try:
        return nib.load(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"the compressed file is damaged or cut short ({error})", path=path, hint="Copy it again."
        ) from error
    except PermissionError as error:
        raise InputError("cannot be opened: permission denied", path=path, hint="Check the file's rights.") from error
    except Exception as error:  # nibabel raises its own kinds, ValueError and OSError for files that are no images
        raise InputError(f"is not a readable image ({type(error).__name__})", path=path, hint=NOT_A_SCAN) from error


def _load(image: Any, path: Path) -> NDArray[Any]:
    kind = image.get_data_dtype()
    if kind.fields is not None:
        raise InputError("is a colour (RGB) image", path=path, hint="Give the grey-scale scan itself.")
    if np.issubdtype(kind, np.complexfloating):
        raise InputError("holds complex numbers", path=path, hint="Give the magnitude image.")
    try:
        return np.asarray(image.dataobj)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        raise InputError("the file is cut short or damaged", path=path, hint="Copy or convert it again.") from error


def _pick_volume(data: NDArray[Any], path: Path, volume: int | None) -> NDArray[Any]:
    if data.ndim < 3:
        raise InputError(f"has {data.ndim} dimensions", path=path, hint="A 3-D scan is needed.")
    count = int(np.prod(data.shape[3:], dtype=int))
    flat = data.reshape(*data.shape[:3], count)
    if count != 1 and volume is None:
        raise InputError(f"holds {count} volumes", path=path, hint=f"Choose one with --volume 0 ... {count - 1}.")
    if volume is not None and not 0 <= volume < count:
        raise InputError(f"has no volume {volume}", path=path, hint=f"It holds {count}, counted from 0.")
    chosen = flat[..., volume or 0]
    if min(chosen.shape) < MIN_VOXELS:
        size = "x".join(map(str, chosen.shape))
        raise InputError(f"is {size} voxels", path=path, hint=f"At least {MIN_VOXELS} along every axis are needed.")
    return chosen


def _check_values(data: NDArray[Any], path: Path, allow_empty: bool) -> tuple[Array, int]:
    values = np.array(data, dtype=np.float32)
    bad = ~np.isfinite(values)
    count = int(bad.sum())
    if count > MAX_NONFINITE * values.size:
        share = 100 * count / values.size
        raise InputError(f"{share:.0f} % of the voxels are NaN or infinite", path=path, hint="Convert the scan again.")
    values[bad] = 0
    low, high = float(values.min()), float(values.max())
    if low == high and not allow_empty:
        what = "all voxels are zero" if low == 0 else f"all voxels have the same value ({low:g})"
        raise InputError(what, path=path, hint="The file holds no image; convert it again.")
    return values, count


def _choose_affine(image: Any, path: Path, geometry: str, warnings: list[str]) -> Affine:
    header = image.header
    affine = np.asarray(image.affine, dtype=float)
    if hasattr(header, "get_sform"):
        sform, scode = header.get_sform(coded=True)
        qform, qcode = _qform(header, path)
        affine = _pick_form(affine, sform, int(scode), qform, int(qcode), geometry, path)
        if scode and qcode and sform is not None and qform is not None and np.isfinite(sform).all():
            gap = np.linalg.norm(apply(sform, corners(image.shape)) - apply(qform, corners(image.shape)), axis=1).max()
            if gap > SHEAR_WARNING_MM and geometry == "auto":
                warnings.append(f"sform and qform differ by up to {gap:.2f} mm; the sform is used (--geometry qform)")
        if not scode and not qcode:
            warnings.append("the header gives no orientation (sform and qform code 0): left and right are not known")
    elif geometry != "auto":
        raise InputError(f"has no {geometry}", path=path, hint="Leave --geometry out for this file type.")
    if not np.isfinite(affine).all():
        raise InputError("the affine is not finite", path=path, hint="Try --geometry qform, or convert the scan again.")
    size = np.linalg.norm(affine[:3, :3], axis=0)
    if size.min() <= 1e-6 or abs(np.linalg.det(affine[:3, :3] / size)) < 0.05:
        raise InputError("the affine is singular", path=path, hint="Try --geometry qform, or convert the scan again.")
    return affine


def _qform(header: Any, path: Path) -> tuple[Affine | None, int]:
    try:
        return header.get_qform(coded=True)  # type: ignore[no-any-return]
    except ValueError:  # quaternion of length over 1; only a fault if the qform is what is asked for
        return None, int(header["qform_code"])


def _pick_form(
    affine: Affine, sform: Affine | None, scode: int, qform: Affine | None, qcode: int, geometry: str, path: Path
) -> Affine:
    if geometry == "sform":
        if not scode or sform is None:
            raise InputError("has no sform", path=path, hint="Use --geometry qform or auto.")
        return np.asarray(sform, dtype=float)
    if geometry == "qform":
        if not qcode or qform is None:
            raise InputError("has no usable qform", path=path, hint="Use --geometry sform or auto.")
        return np.asarray(qform, dtype=float)
    return affine


def write_native(path: Path, data: Array, scan: Scan, *, dtype: type = np.float32, name: str = "") -> None:
    """Write `data`, on the canonical grid of `scan`, as NIfTI on the scan's own grid.

    Affine, sform and qform (codes and matrices), voxel sizes and units are the source's bit for bit; free text fields
    and header extensions of the source, which may name a patient, are left out. Raises `OutputError`.
    """
    import nibabel as nib

    native: NDArray[Any] = from_canonical(data, scan.orientation).astype(dtype)
    kind = nib.Nifti2Image if isinstance(scan.header, nib.Nifti2Header) else nib.Nifti1Image
    if isinstance(scan.header, nib.Nifti1Header):
        header = kind.header_class.from_header(scan.header, check=False)
        affine = None  # leave sform and qform as they are
    else:
        header, affine = kind.header_class(), scan.source_affine
        header.set_xyzt_units("mm")
    write_image(path, kind, native, affine, header, name)


def write_mni(path: Path, volume: Volume, *, dtype: type = np.float32, name: str = "") -> None:
    """Write a volume on the MNI grid as NIfTI, sform and qform code 4 (MNI). Raises `OutputError`."""
    import nibabel as nib

    image = nib.Nifti1Image(volume.data.astype(dtype), volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, 4)
    image.set_qform(volume.affine, 4)
    write_image(path, nib.Nifti1Image, volume.data.astype(dtype), None, image.header, name)


def write_image(path: Path, kind: Any, data: NDArray[Any], affine: Affine | None, header: Any, name: str) -> None:
    """Write one NIfTI file atomically with the tool's own description; `name` becomes the intent name."""
    header = header.copy()
    header.extensions.clear()
    header.set_data_shape(data.shape)
    header.set_data_dtype(data.dtype)
    for text in ("db_name", "aux_file", "data_type"):
        header[text] = b""
    header["descrip"] = f"uad {__version__} research use only".encode()
    header["intent_name"] = name.encode()[:15]
    header["intent_code"] = 0
    header["cal_min"], header["cal_max"] = 0, 0
    image = kind(data, affine, header)
    image.header["scl_slope"], image.header["scl_inter"] = 1, 0
    write_with(path, lambda temporary: nib_save(image, temporary))


def nib_save(image: Any, path: Path) -> None:
    """Save with nibabel; data already have their final type, so slope 1 and intercept 0 are what gets written."""
    image.header.set_slope_inter(1, 0)
    image.to_filename(str(path))
