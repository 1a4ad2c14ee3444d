"""The healthy scans of one scanner, in the folder of `--adapt`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HealthyScans:
    """The healthy scans of one scanner in a `folder`: their `files` by sha256.

    `contrast`, if given, is that of scans whose names do not give it; otherwise the image decides. `geometry` is as in
    `read_scan`.
    """

    folder: Path
    files: dict[str, Path]
    contrast: str | None = None
    geometry: str = "auto"

    @property
    def sha256(self) -> str:
        """One sha256 for all of them, independent of their names except for the contrast."""
        return digest_of(f"{digest} {self.stated(path)}" for digest, path in self.files.items())

    def stated(self, path: Path) -> str | None:
        """The contrast of a scan if it is known without reading the image."""
        from uadcli.data.contrast import from_name

        return from_name(path) or self.contrast

    def digest_like(self, scan: Path, sha256: str) -> str:
        """The sha256 of the healthy scan that only compression tells apart from a `scan`; otherwise that of the scan.

        Only scans of the same name are compared, as where copies in the folder are left out.
        """
        from uadcli.imaging.stored import same_content
        from uadcli.imaging.volume import stem

        if sha256 in self.files:
            return sha256
        named = ((digest, path) for digest, path in self.files.items() if stem(path) == stem(scan))
        return next((digest for digest, path in named if same_content(path, scan)), sha256)


def digest_of(digests: Iterable[str]) -> str:
    """One sha256 for several, independent of their order."""
    import hashlib  # here, since --help loads this module

    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
