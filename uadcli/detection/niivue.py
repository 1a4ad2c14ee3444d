"""The script of NiiVue, which shows a page in native space: from the package, or else once from the npm registry.

The slim wheel does not contain it. Whatever its origin, it is used only with the expected sha256.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from functools import cache
from pathlib import Path

from uadcli.console import Reporter
from uadcli.device import offline
from uadcli.errors import WeightsError
from uadcli.files import write_bytes
from uadcli.report import viewer
from uadcli.report.viewer import VERSION
from uadcli.weights import cache as caches
from uadcli.weights import transfer

REGISTRY = "https://registry.npmjs.org"
ARCHIVE = f"@niivue/niivue/-/niivue-{VERSION}.tgz"
START, SIZE = 10_876_416, 2_284_381  # of dist/niivue.umd.js in the unpacked archive (offset_data, size)
GZIP = 31  # window bits by which zlib reads gzip
FULL = "Or install the full wheel, which contains it."


def ensure(kind: bool | str | None, reporter: Reporter) -> None:
    """Download the script if a page of this `kind` needs it and it is not there. Raises `WeightsError`."""
    if kind == "niivue" and _local() is None:
        if offline():
            hint = f"With network access, run once: uad detect SCAN --html niivue. {FULL}"
            raise WeightsError("NiiVue is not in the cache, and network use is disabled", hint=hint)
        with caches.filling(_place(), reporter.info):
            if _local() is None:  # another process may have been first
                reporter.info(f"downloading NiiVue {VERSION}")
                with reporter.stage("download, MB"):
                    write_bytes(_place() / viewer.FILE, gzip.compress(_download(reporter), mtime=0))


@cache
def script() -> str:
    """The script; `ensure` comes first. Raises `WeightsError`."""
    found = _local()
    if found is None:
        raise WeightsError("NiiVue is not in the cache", hint="Run the command again.")
    return found.decode()


def _place() -> Path:
    return caches.place("niivue", VERSION)


def _local() -> bytes | None:
    """The script from the package or the cache; None if it is nowhere, or damaged."""
    for path in (viewer.FOLDER / viewer.FILE, *([_place() / viewer.FILE] if caches.folder() else [])):
        if path.exists():
            try:
                content = gzip.decompress(path.read_bytes())
            except (OSError, EOFError, zlib.error):
                continue
            if hashlib.sha256(content).hexdigest() == viewer.SHA256:
                return content
    return None


def _download(reporter: Reporter) -> bytes:
    """The script out of the archive in the registry that npm uses. Raises `WeightsError`."""
    registry = os.environ.get("NPM_CONFIG_REGISTRY", REGISTRY).rstrip("/")
    try:
        packed = transfer.whole(f"{registry}/{ARCHIVE}", transfer.in_mb(reporter))
        content = zlib.decompressobj(GZIP).decompress(packed, START + SIZE)[START:]
    except (*transfer.UNREACHED, zlib.error) as error:
        what = f"NiiVue cannot be downloaded from {registry} ({error})"
        raise WeightsError(what, hint=f"Check the network, HTTPS_PROXY and NPM_CONFIG_REGISTRY. {FULL}") from error
    if hashlib.sha256(content).hexdigest() != viewer.SHA256:
        what = f"{registry} has another NiiVue {VERSION} than the pinned one (sha256 differs)"
        raise WeightsError(what, hint=f"A proxy may have answered. {FULL}")
    return content
