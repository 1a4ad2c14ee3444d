"""The healthy scans of one scanner, as `--adapt` names them by a folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class HealthyScans:
    """The healthy scans of one scanner in a `folder`: their `files` by digest.

    Of those whose names do not tell it `contrast` does, if it is given; else the image does. `geometry` is as in
    `read_scan`.
    """

    folder: Path
    files: dict[str, Path]
    contrast: str | None = None
    geometry: str = "auto"

    @property
    def sha256(self) -> str:
        """One digest for all of them, whatever they are called but for the contrast that a name tells."""
        return digest_of(f"{digest} {self.told(path)}" for digest, path in self.files.items())

    def told(self, path: Path) -> str | None:
        """The contrast of a scan, if it is known without looking at the image."""
        from uadcli.data.contrast import from_name

        return from_name(path) or self.contrast


def digest_of(digests: Iterable[str]) -> str:
    """One digest for several, in whatever order."""
    import hashlib  # here, as the options of commands are loaded by --help

    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()
