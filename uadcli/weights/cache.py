"""The cache of weights: models of the Hub by repository and commit, imported models by name.

`CACHE/hub/OWNER/REPO/COMMIT/` and `CACHE/weights/NAME/` contain the same files as an exported model: weights, card, and
`registry.toml`, which is written last and has the sha256 of the others. Reading needs no lock. `CACHE/adapt/` belongs
to `model.adapt`, `CACHE/niivue/` to `detection.niivue`.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from uadcli.errors import OutputError, UadError, WeightsError
from uadcli.files import file_sha256
from uadcli.running.temporary import remove
from uadcli.weights import registry
from uadcli.weights.registry import Entry

Notify = Callable[[str], None]
HUB, IMPORTED = "hub", "weights"
LOCK, SCRATCH, PARTIAL = ".lock", ".part-", ".partial"
ELSEWHERE = "Free space there, or set UAD_CACHE to a folder that can be written."
UNWRITABLE = {errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


@dataclass(frozen=True)
class Model:
    """A cached model: its folder, its registry entry or the fault of that, and its `reference` on the Hub."""

    folder: Path
    entry: Entry | None
    fault: str | None
    reference: str | None

    @property
    def path(self) -> Path | None:
        """The weight file."""
        return self.folder / self.entry.file if self.entry else None


def folder() -> Path | None:
    """The cache folder: `UAD_CACHE`, else `XDG_CACHE_HOME/uad`, else `~/.cache/uad`; None without a home folder."""
    if os.environ.get("UAD_CACHE"):
        return Path(os.environ["UAD_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # as the XDG specification demands
        return Path(base) / "uad"
    home = os.path.expanduser("~")
    return Path(home) / ".cache" / "uad" if os.path.isabs(home) else None


def place(*parts: str) -> Path:
    """A folder of the cache. Raises `WeightsError` if there is no cache."""
    root = folder()
    if root is None:
        raise WeightsError("there is no home folder for the cache", hint=ELSEWHERE)
    return root.joinpath(*parts)


def models() -> list[Model]:
    """Every cached model; damaged ones with their fault."""
    root = folder()
    if root is None:
        return []
    found: list[tuple[str, str | None]] = [(p, None) for p in glob.glob(f"{IMPORTED}/*/{registry.FILE}", root_dir=root)]
    for path in glob.glob(f"{HUB}/*/*/*/{registry.FILE}", root_dir=root):
        _, owner, name, commit, _ = Path(path).parts
        found.append((path, f"hf://{owner}/{name}@{commit}"))
    return [_model((root / path).parent, reference) for path, reference in sorted(found)]


def _model(place: Path, reference: str | None) -> Model:
    try:
        refuse_foreign(place, *place.iterdir())
        entry = registry.read_one(place, "Remove the folder.")
    except WeightsError as error:
        return Model(place, None, str(error), reference)
    except OSError as error:
        return Model(place, None, f"{place}: cannot be read: {error.strerror}", reference)
    return Model(place, entry, None, reference)


def holds(place: Path, sha256: str | None = None) -> Entry | None:
    """The registry entry of a cache folder, if its file exists and has the expected sha256; otherwise None."""
    if not (place / registry.FILE).exists():
        return None
    refuse_foreign(place, *place.iterdir())
    try:
        entry = registry.read_one(place, "Remove the folder.")
    except WeightsError:  # treated as empty, and filled again
        return None
    return entry if sha256 in (None, entry.sha256) and (place / entry.file).exists() else None


def refuse_foreign(*paths: Path) -> None:
    """Raises `WeightsError` for a cache folder or file that others could have tampered with: it belongs neither to this
    user, the system, nor the cache's owner, or is writable by everyone."""
    root = folder()
    if root is None or not hasattr(os, "getuid"):
        return
    trusted = {os.getuid(), 0, *([root.stat().st_uid] if root.exists() else [])}
    for path in paths:
        try:
            state = path.lstat()
        except FileNotFoundError:  # of another process, which is filling the folder
            continue
        if state.st_uid not in trusted:
            what = f"belongs to another user ({state.st_uid}) than this cache"
            raise WeightsError(what, path=path, hint="Remove it, or set UAD_CACHE to your own folder.")
        if state.st_mode & stat.S_IWOTH and not path.is_symlink():
            raise WeightsError("is writable by everyone", path=path, hint="Remove that permission: chmod -R o-w.")


def origin(path: Path) -> str | None:
    """The Hub reference of a cached file, as for `--weights`; None for any other file."""
    parts = _parts_in_cache(path)
    return f"hf://{parts[1]}/{parts[2]}@{parts[3]}" if len(parts) == 5 and parts[0] == HUB else None


def refuse(path: Path, sha256: str) -> WeightsError:
    """The error for a file without the `sha256` of its registry; a cached one is removed, with its registry.

    Under the lock, and only if the file is still wrong: another process may have replaced it meanwhile.
    """
    what = "the file is not the one in the registry (sha256 differs)"
    if not _parts_in_cache(path):
        return WeightsError(what, path=path, hint="Install or copy it again.")
    try:
        with filling(path.parent):
            if path.exists() and weights_sha256(path) != sha256:
                path.with_name(registry.FILE).unlink(missing_ok=True)
                path.unlink()
    except (OSError, UadError) as error:
        return WeightsError(f"{what} and cannot be removed ({error})", path=path, hint=ELSEWHERE)
    back = origin(path)
    again = f"uad weights download {back}" if back else "uad weights import PATH"
    return WeightsError(f"{what} and was removed", path=path, hint=f"Get it again: {again}")


def _parts_in_cache(path: Path) -> tuple[str, ...]:
    """The parts of a path relative to the cache, if it is in one of its folders; otherwise empty."""
    root = folder()
    inside = root is not None and path.resolve().is_relative_to(root.resolve())
    parts = path.resolve().relative_to(root.resolve()).parts if root and inside else ()
    return parts if parts[:1] in ((HUB,), (IMPORTED,)) else ()


@contextmanager
def filling(place: Path, notify: Notify | None = None) -> Iterator[None]:
    """Create and lock a cache folder; leftovers of killed processes are removed.

    Raises `OutputError` if the cache cannot be written, `WeightsError` for a link in its place.
    """
    from filelock import FileLock, Timeout

    if place.is_symlink():
        raise WeightsError("is a symbolic link, which is not followed", path=place, hint="Remove it.")
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if notify:
                notify(f"another process is filling {place}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise unwritable(error, place) from error
    try:
        for left in place.glob(f"{SCRATCH}*"):
            remove(left)
        yield
    finally:
        lock.release()


def unwritable(error: OSError, place: Path | None = None) -> OutputError:
    """The error for a cache folder that is full or not writable."""
    return OutputError(f"the cache cannot be written: {error.strerror}", path=place or folder(), hint=ELSEWHERE)


@contextmanager
def scratch(place: Path) -> Iterator[Path]:
    """A temporary hidden folder inside `place` for files that are not verified yet."""
    part = place / f"{SCRATCH}{secrets.token_hex(6)}"
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part)


@contextmanager
def partial(place: Path, keep: Callable[[BaseException], bool]) -> Iterator[Path]:
    """The hidden folder inside `place` for a download, with what an earlier attempt left; use it under the lock.

    Removed at the end, also after an error unless `keep` says that the next attempt can continue. Raises
    `WeightsError` if others could have changed what is in it.
    """
    part = place / PARTIAL
    if os.path.lexists(part):
        left = [part, *(part.iterdir() if part.is_dir() else ())]
        refuse_foreign(*left)
        for path in left:
            if path.is_symlink():
                raise WeightsError("is a symbolic link, which is not followed", path=path, hint="Remove it.")
    part.mkdir(mode=0o700, exist_ok=True)
    try:
        yield part
    except BaseException as error:
        if not keep(error):
            shutil.rmtree(part)
        raise
    shutil.rmtree(part)


def publish(part: Path, entry: Entry, place: Path) -> None:
    """Move the files of a model from a scratch folder to their place, durably, the registry last.

    Raises `WeightsError`, before moving anything, if a file does not have the sha256 of the registry.
    """
    names = [entry.file, *([entry.card] if entry.card_sha256 else []), registry.FILE]
    for name, digest in ((entry.file, entry.sha256), (entry.card, entry.card_sha256)):
        if digest and weights_sha256(part / name) != digest:
            raise WeightsError(f"{name} is not the file of its registry (sha256 differs)", path=place)
    for name in names:
        with (part / name).open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(part / name, place / name)


def weights_sha256(path: Path) -> str:
    """The hexadecimal sha256 of a file. Raises `WeightsError` if it cannot be read."""
    return file_sha256(path, WeightsError)
