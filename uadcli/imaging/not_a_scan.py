"""Errors that name what a file is if it is not a scan, with the remedy."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from uadcli.errors import InputError

FORMATS = "Give a NIfTI (.nii, .nii.gz, .img/.hdr) or .mgz file."
CONVERT = "Convert its folder with `dcm2niix -z y FOLDER`."
UNPACK = "Unpack it and give the scan inside."
DOWNLOAD = "Download the file itself."
ANNEX = "Get it with `git annex get FILE` or `datalad get FILE`."

POINTERS = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the scan it stands for", "Get it with `git lfs pull`."),
    (b"/annex/objects/", "is a git-annex pointer, not the scan it stands for", ANNEX),
)
SIGNATURES = (
    (b"PK\x03\x04", "is a ZIP archive", UNPACK),
    (b"BZh", "is compressed with bzip2", "Unpack it with `bunzip2`."),
    (b"\xfd7zXZ\0", "is compressed with xz", "Unpack it with `unxz`."),
    (b"\x28\xb5\x2f\xfd", "is compressed with Zstandard", "Unpack it with `unzstd`."),
    (b"7z\xbc\xaf\x27\x1c", "is a 7-Zip archive", UNPACK),
    (b"Rar!", "is a RAR archive", UNPACK),
    (b"\x1f\x8b", "is compressed twice", "Unpack it once with `gunzip`."),
    (b"\x89HDF\r\n\x1a\n", "is an HDF5 or MINC file", FORMATS),
    (b"CDF\x01", "is a NetCDF or MINC file", FORMATS),
    (b"NRRD0", "is an NRRD file", FORMATS),
    (b"ObjectType", "is a MetaImage file", FORMATS),
    (b"\x89PNG", "is a PNG picture", "Give the scan itself."),
    (b"\xff\xd8\xff", "is a JPEG picture", "Give the scan itself."),
    (b"%PDF", "is a PDF document", "Give the scan itself."),
)
HEAD = 4096  # bytes that are enough to recognise all of these


def open_regular(path: Path) -> int:
    """Open a regular file for reading and return its descriptor. Raises `InputError` for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would block
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise _folder(path)
    what = "is a pipe" if stat.S_ISFIFO(mode) else "is a device or socket"
    raise InputError(f"{what}, not a file", path=path, hint="Write the scan to a file first.")


def check_name(path: Path, suffixes: tuple[str, ...]) -> None:
    """Raises `InputError` for a path without the suffix of a scan, saying what the path is where possible."""
    if path.name.lower().endswith(suffixes):
        return
    if path.is_dir():
        raise _folder(path)
    if not os.path.lexists(path):
        raise InputError("no such file", path=path, hint="Check the path.")
    if path.suffix.lower() in {".dcm", ".ima"}:
        raise InputError("is a DICOM file", path=path, hint=CONVERT)
    raise InputError("is not a NIfTI or MGH file by its name", path=path, hint=FORMATS)


def refuse(path: Path, head: bytes) -> InputError:
    """The error for a file whose first bytes are not those of an image."""
    what, hint = name_content(head)
    return InputError(what, path=path, hint=hint)


def name_content(head: bytes) -> tuple[str, str]:
    """What a file is that begins with `head` (`HEAD` bytes) but is not an image, and the remedy."""
    if not head:
        return "is empty", "Copy or convert it again."
    if head[128:132] == b"DICM":
        return "is a DICOM file", CONVERT
    for start, what, hint in (*POINTERS, *SIGNATURES):
        if head.startswith(start):
            return what, hint
    if not head.strip(b"\0"):
        return "begins with zeros only: its content was not copied", "Copy it again."
    return _text(head) or ("is not a readable image", FORMATS)


def _text(head: bytes) -> tuple[str, str] | None:
    """The kind of a text file, and the remedy; None if it is not text."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<!--")):
        return "is an HTML page, not a scan: a failed download or a sign-in page", DOWNLOAD
    if start.startswith((b"<?xml", b"<error")):
        return "is an XML file, not a scan", DOWNLOAD
    if start.startswith((b"{", b"[")):
        return "is a JSON file, not a scan", DOWNLOAD
    control = sum(byte < 9 or 13 < byte < 32 for byte in head)
    return None if control else ("is text, not a readable image", DOWNLOAD)


def _not_opened(path: Path, error: OSError | ValueError) -> InputError:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ENOENT and os.path.islink(path):
        return _dangling(path)
    if number in (errno.ENOENT, errno.ENOTDIR) or isinstance(error, ValueError):
        return InputError("no such file", path=path, hint="Check the path.")
    if number in (errno.EACCES, errno.EPERM):
        return InputError("cannot be opened: permission denied", path=path, hint="Check the file's permissions.")
    if number == errno.ELOOP:
        return InputError("is a link that leads back to itself", path=path, hint="Check the path.")
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return InputError(f"cannot be opened: {reason}", path=path, hint="Check the path.")


def _dangling(path: Path) -> InputError:
    target = os.readlink(path)
    if "annex/objects" in target.replace("\\", "/"):
        return InputError("is a git-annex link whose content is not here", path=path, hint=ANNEX)
    return InputError(f"is a link to {target}, which does not exist", path=path, hint="Check the link.")


def _folder(path: Path) -> InputError:
    try:
        dicom = any(p.suffix.lower() in {".dcm", ".ima"} or p.name == "DICOMDIR" for p in path.iterdir())
    except OSError:  # a folder that may not be listed is a folder all the same
        dicom = False
    what = "is a folder of DICOM files" if dicom else "is a folder, not a scan"
    return InputError(what, path=path, hint="Convert DICOM with `dcm2niix -z y FOLDER` and give the .nii.gz file.")
