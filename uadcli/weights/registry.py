"""`registry.toml`: the weight files of a folder with their expected sha256."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uadcli.config import CONTRASTS
from uadcli.errors import OutputError, WeightsError
from uadcli.files import refuse_closed, write_text

FILE = "registry.toml"
LARGEST_BYTES = 2**20
INSTALL = "Install the package again, or set UAD_WEIGHTS_DIR."
SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


@dataclass(frozen=True)
class Entry:
    """A model in a folder: its name, file, digest, and contrasts.

    `card_sha256` is the digest of its card, `NAME.md`; `repo` and `commit` locate the same file on the Hub.
    """

    name: str
    file: str
    sha256: str
    contrasts: tuple[str, ...]
    card_sha256: str | None = None
    repo: str | None = None
    commit: str | None = None

    @property
    def card(self) -> str:
        """The name of the card's file."""
        return f"{self.name}.md"

    @property
    def reference(self) -> str | None:
        """The location of the file on the Hub, as for `--weights`."""
        return f"hf://{self.repo}@{self.commit}" if self.repo else None


def folder() -> Path:
    """The weights folder: `UAD_WEIGHTS_DIR`, else the one in the installed package, else the repository's."""
    if chosen := os.environ.get("UAD_WEIGHTS_DIR"):  # empty, as a container may have it, counts as unset
        return Path(chosen)
    package = Path(__file__).parents[1]
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def bundled() -> list[Entry]:
    """The bundled models, the default first. Raises `WeightsError` if the registry is missing or damaged."""
    return read(folder())


def read(place: Path, hint: str = INSTALL) -> list[Entry]:
    """The entries of a folder's registry. Raises `WeightsError` if it is missing, damaged, or has unsafe file names."""
    file = place / FILE
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror}", path=file, hint=hint) from error
    if len(content) > LARGEST_BYTES:
        raise WeightsError("is damaged: it is too large for a registry", path=file, hint=hint)
    try:
        models = tomllib.loads(content.decode("utf-8"))["model"]
        entries = [_entry(values) for values in models]
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # rubbish may nest deeply or be huge
        raise WeightsError("is damaged", path=file, hint=hint) from error
    for entry in entries:
        if fault := _fault(entry):
            raise WeightsError(f"is damaged: {fault}", path=file, hint=hint)
    return entries


def read_one(place: Path, hint: str) -> Entry:
    """The only entry of a folder with one model. Raises `WeightsError`."""
    entries = read(place, hint)
    if len(entries) != 1:
        raise WeightsError(f"names {len(entries)} models, not one", path=place / FILE, hint=hint)
    return entries[0]


def write(place: Path, *entries: Entry, comment: str = "") -> None:
    """Write the registry of a folder."""
    write_text(place / FILE, comment + "\n".join(as_toml(entry) for entry in entries))


def refuse_taken(place: Path, file: str, overwrite: bool) -> None:
    """Raises `OutputError` if a folder already contains weights; with `overwrite` only if they are not called `file`,
    next to which that would be of no use."""
    refuse_closed(place / FILE)
    others = sorted(path.name for path in place.glob("*.safetensors") if path.name != file) if place.is_dir() else []
    if others:
        raise OutputError(f"already contains other weights ({others[0]})", path=place, hint="Choose another folder.")
    if not overwrite and any((place / name).exists() for name in (file, FILE)):
        raise OutputError("already contains weights", path=place, hint="Choose another folder, or give --overwrite.")


def needed(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that are the default of some contrast, which is the first that covers it."""
    first: dict[str, Entry] = {}
    for entry in entries:
        for contrast in entry.contrasts:
            first.setdefault(contrast, entry)
    return [entry for entry in entries if entry in first.values()]


def as_toml(entry: Entry) -> str:
    """An entry as TOML, without unknown values."""
    values = {key: value for key, value in vars(entry).items() if value is not None}
    return "[[model]]\n" + "".join(f"{k} = {json.dumps(v, ensure_ascii=False)}\n" for k, v in values.items())


def check(entry: Entry) -> None:
    """Raises `WeightsError` for an invalid entry."""
    if fault := _fault(entry):
        raise WeightsError(f"cannot be registered: {fault}", hint="Export the model into a folder with a plain name.")


def _entry(values: Any) -> Entry:
    """An entry from parsed TOML. Raises `TypeError` or `KeyError` for wrong types."""
    if not isinstance(values, dict) or not isinstance(values["contrasts"], list):
        raise TypeError("not a table of a model")
    texts = [values["name"], values["file"], values["sha256"], *values["contrasts"]]
    more = {key: values.get(key) for key in ("card_sha256", "repo", "commit")}
    if not all(isinstance(text, str) for text in (*texts, *(one for one in more.values() if one is not None))):
        raise TypeError("not all of it is text")
    return Entry(values["name"], values["file"], values["sha256"], tuple(values["contrasts"]), **more)


def _fault(entry: Entry) -> str:
    """What is invalid about an entry, else empty: it may come from the Hub, and its names become paths."""
    if not is_plain(entry.name):
        return f"{entry.name!r} is not a valid name"
    if not is_plain(entry.file) or not entry.file.endswith(".safetensors"):
        return f"{entry.file!r} is not a safetensors file in this folder"
    if not all(isinstance(d, str) and SHA256.fullmatch(d) for d in (entry.sha256, entry.card_sha256 or entry.sha256)):
        return f"{entry.name} has no sha256"
    if not entry.contrasts or not set(entry.contrasts) <= set(CONTRASTS):
        return f"{entry.name} covers unknown contrasts"
    where = (entry.repo, entry.commit)
    if where != (None, None) and not (REPO.fullmatch(str(where[0])) and COMMIT.fullmatch(str(where[1]))):
        return f"{entry.name} has no full repo and commit"
    return ""


def is_plain(name: object) -> bool:
    """Whether a name stays in its folder, is not hidden, and fits on one line."""
    return isinstance(name, str) and name.isprintable() and bool(re.fullmatch(r"[^\s./\\][^/\\]*", name))
