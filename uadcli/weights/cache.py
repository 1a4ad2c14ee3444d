"""The cache of weights: models of the Hub by repository and commit, imported models by name.

`CACHE/hub/OWNER/REPO/COMMIT/` and `CACHE/weights/NAME/` hold what the folder of an exported model holds: the weights,
their card, and `registry.toml`, which is written last and vouches for the others. Reading takes no lock.
`CACHE/adapt/` is that of `model.adapt`.
"""

from __future__ import annotations

import glob
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from uadcli.errors import WeightsError
from uadcli.files import file_sha256
from uadcli.running.temporary import remove
from uadcli.weights import registry
from uadcli.weights.registry import Entry

Tell = Callable[[str], None]
HUB, IMPORTED = "hub", "weights"
LOCK, SCRATCH = ".lock", ".part-"
ELSEWHERE = "Set UAD_CACHE to a writable folder."


@dataclass(frozen=True)
class Model:
    """A model of the cache: its folder, what its registry says, or what is wrong with that; `reference` on the Hub."""

    folder: Path
    entry: Entry | None
    fault: str | None
    reference: str | None

    @property
    def path(self) -> Path | None:
        """The weight file."""
        return self.folder / self.entry.file if self.entry else None


def folder() -> Path | None:
    """The cache: `UAD_CACHE`, else `XDG_CACHE_HOME/uad`, else `~/.cache/uad`; None for a user without a home."""
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
    """Every model of the cache. One that is damaged is listed too, with its fault."""
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
        _refuse_foreign(place)
        entry = registry.read_one(place, "Remove the folder.")
    except WeightsError as error:
        return Model(place, None, str(error), reference)
    return Model(place, entry, None, reference)


def holds(place: Path, sha256: str | None = None) -> Entry | None:
    """The entry of a folder of the cache, if its file is there and has the digest that is asked for."""
    if not (place / registry.FILE).exists():
        return None
    _refuse_foreign(place)
    try:
        entry = registry.read_one(place, "Remove the folder.")
    except WeightsError:  # it is filled anew, as if it were empty
        return None
    return entry if sha256 in (None, entry.sha256) and (place / entry.file).exists() else None


def _refuse_foreign(place: Path) -> None:
    """Raises `WeightsError` for a folder of a shared cache that somebody could have filled with other weights: it, or a
    file in it, belongs neither to this user, the system, nor the cache's owner, or anybody may write it."""
    root = folder()
    if root is None or not hasattr(os, "getuid"):
        return
    trusted = {os.getuid(), 0, *([root.stat().st_uid] if root.exists() else [])}
    for path in (place, *place.iterdir()):
        state = path.lstat()
        if state.st_uid not in trusted:
            what = f"belongs to another user ({state.st_uid}) than this cache"
            raise WeightsError(what, path=path, hint="Remove it, or import the model yourself.")
        if state.st_mode & stat.S_IWOTH and not path.is_symlink():
            raise WeightsError("is writable by everyone", path=path, hint="Remove that permission: chmod -R o-w.")


def origin(path: Path) -> str | None:
    """Where on the Hub a file of the cache came from, as `--weights` takes it; None for any other file."""
    parts = _parts_in_cache(path)
    return f"hf://{parts[1]}/{parts[2]}@{parts[3]}" if len(parts) == 5 and parts[0] == HUB else None


def refuse(path: Path, sha256: str) -> WeightsError:
    """The error for a file that has not the `sha256` of its registry; one in the cache is removed, with its registry.

    Under the lock, and only if it is still so: another process may have put a sound one there meanwhile.
    """
    what = "the file is not the one in the registry (sha256 differs)"
    if not _parts_in_cache(path):
        return WeightsError(what, path=path, hint="Install or copy it again.")
    try:
        with filling(path.parent):
            if path.exists() and weights_sha256(path) != sha256:
                path.with_name(registry.FILE).unlink(missing_ok=True)
                path.unlink()
    except (OSError, WeightsError) as error:
        return WeightsError(f"{what} and cannot be removed ({error})", path=path, hint=ELSEWHERE)
    back = origin(path)
    again = f"uad weights download {back}" if back else "uad weights import PATH"
    return WeightsError(f"{what} and was removed", path=path, hint=f"Get it again: {again}")


def _parts_in_cache(path: Path) -> tuple[str, ...]:
    """The parts of a path below the cache, if it is in one of the cache's own folders."""
    root = folder()
    inside = root is not None and path.resolve().is_relative_to(root.resolve())
    parts = path.resolve().relative_to(root.resolve()).parts if root and inside else ()
    return parts if parts[:1] in ((HUB,), (IMPORTED,)) else ()


@contextmanager
def filling(place: Path, tell: Tell | None = None) -> Iterator[None]:
    """Hold the lock of a folder of the cache, which is made; what a killed process left there is removed.

    Raises `WeightsError` if the cache cannot be written.
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
            if tell:
                tell(f"another process is filling {place}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise WeightsError(f"the cache cannot be written: {error.strerror}", path=place, hint=ELSEWHERE) from error
    try:
        for left in place.glob(f"{SCRATCH}*"):
            remove(left)
        yield
    finally:
        lock.release()


@contextmanager
def scratch(place: Path) -> Iterator[Path]:
    """A hidden folder inside `place` for files that are not yet verified; gone at the end."""
    part = place / f"{SCRATCH}{secrets.token_hex(6)}"
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part)


def publish(part: Path, entry: Entry, place: Path) -> None:
    """Move the verified files of a model from a scratch folder to their place, durably, the registry last.

    Raises `WeightsError` if a file is not what the registry says; then nothing is moved.
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
