"""The functions behind `uad weights`: list, download, verify, import and publish models."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from uadcli import __version__
from uadcli.console import Reporter
from uadcli.errors import RESEARCH_USE, OutputError, WeightsError
from uadcli.weights import cache, hub, registry, weights
from uadcli.weights.registry import Entry

LINES = ("name", "version", "contrasts", "path", "sha256", "origin", "licence", "training_data", "intensity_range")


def listing() -> list[dict[str, Any]]:
    """Every known model, bundled and cached, with its location and fault, if any.

    `path` is None for a model not downloaded yet, `origin` None for one not from the Hub. Reads only registries: no
    weight files, no network.
    """
    rows = []
    for entry in registry.bundled():
        path, origin = registry.folder() / entry.file, entry.reference
        fault = None if path.exists() or origin else f"{path}: is missing"
        rows.append(_row(entry, "bundled", path if path.exists() else None, origin, fault))
    for model in cache.models():
        source = "hub" if model.reference else "imported"
        if model.entry is None:
            rows.append(_row(None, source, None, model.reference, model.fault) | {"name": model.folder.name})
            continue
        path = model.folder / model.entry.file
        fault = None if path.exists() else f"{path}: is missing"
        rows.append(_row(model.entry, source, path if path.exists() else None, model.reference, fault))
    return rows


def _row(entry: Entry | None, source: str, path: Path | None, origin: str | None, fault: str | None) -> dict[str, Any]:
    return {
        "name": entry.name if entry else None,
        "source": source,
        "contrasts": list(entry.contrasts) if entry else [],
        "sha256": entry.sha256 if entry else None,
        "path": str(path) if path else None,
        "origin": origin,
        "fault": fault,
    }


def listing_in_words(rows: Sequence[dict[str, Any]]) -> str:
    """One line for each model."""
    return "\n".join(
        f"{r['name']}  {r['source']}  {','.join(r['contrasts']) or '-'}  {(r['sha256'] or '-')[:12]}  "
        f"{r['fault'] or r['path'] or 'not downloaded'}" + (f"  {r['origin']}" if r["origin"] else "")
        for r in rows
    )


def defaults() -> list[str]:
    """The paths of the bundled models (their names could also be those of files here). Raises `WeightsError`."""
    covered = [contrast for entry in registry.bundled() for contrast in entry.contrasts]
    return list(dict.fromkeys(str(weights.find(None, contrast, download=False)[0]) for contrast in covered))


def show(name: str) -> dict[str, Any]:
    """The card of a model, with its path and digest. Raises `WeightsError`."""
    path, sha256 = weights.find(name)
    digest = cache.weights_sha256(path)
    if sha256 is not None and digest != sha256:
        raise cache.refuse(path, sha256)
    card = dataclasses.asdict(weights.read_card(path))
    return card | {"path": str(path), "sha256": digest, "origin": cache.origin(path), "research_use_only": RESEARCH_USE}


def show_in_words(shown: dict[str, Any]) -> str:
    """The card as text."""
    rows = [(key.replace("_", " "), _text(shown[key])) for key in LINES]
    rows.append(("thresholds", shown["threshold_rule"]))
    for kind, by_contrast in shown["thresholds"].items():
        values = ", ".join(f"{contrast} {value:.4f}" for contrast, value in by_contrast.items())
        default = [contrast for contrast, score in shown["scores"].items() if score == kind]
        rows.append((f"  {kind}", values + (f" (default: {', '.join(default)})" if default else "")))
    return "\n".join([*(f"{key:<17} {value}" for key, value in rows), RESEARCH_USE])


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list | tuple) else str(value or "-")


def download(name: str, output: Path | None, overwrite: bool, reporter: Reporter) -> Path:
    """Download a model into the cache, and copy it to the folder `output` if given; returns its verified file.

    A branch or tag of the Hub is looked up, and its commit reported. Raises `WeightsError`, `OutputError`.
    """
    if name.startswith(hub.SCHEME):
        reference = hub.pin(name)
        reporter.info(f"pinned: {reference}")
        name = str(reference)
    path, sha256 = weights.find(name, reporter=reporter)
    with reporter.stage("weights"):
        if sha256 is not None and cache.weights_sha256(path) != sha256:
            raise cache.refuse(path, sha256)
    return path if output is None else _copy(_entry_of(path), path.parent, output, overwrite)


def path_of(name: str) -> Path:
    """The path of a model's file on this machine. Raises `WeightsError` if it is missing."""
    path = weights.find(name, download=False)[0]
    if not path.exists():
        raise WeightsError("is missing", path=path, hint=registry.INSTALL)
    return path


def verify(names: Sequence[str]) -> list[dict[str, Any]]:
    """Compare the sha256 of models, by default all local ones, with their registries; mismatches have a `fault`.

    A cached file that does not match is removed. Raises `WeightsError` for an unknown name.
    """
    if names:
        found = [(name, *weights.find(name, download=False)) for name in names]
        return [{"name": name, "path": str(path), "fault": _fault(path, sha256)} for name, path, sha256 in found]
    rows = []
    for row in listing():
        here = row["path"] is not None
        fault = _fault(Path(row["path"]), row["sha256"]) if here else row["fault"]
        if here or fault:  # a model not downloaded yet has no fault
            rows.append({"name": row["name"], "path": row["path"], "fault": fault})
    return rows


def _fault(path: Path, sha256: str | None) -> str | None:
    """What is wrong with a local file, or None."""
    try:
        if sha256 is None:
            raise WeightsError("its sha256 is not in any registry", path=path, hint="Import it.")
        if cache.weights_sha256(path) != sha256:
            raise cache.refuse(path, sha256)
        weights.read_card(path)
    except WeightsError as error:
        return str(error)
    return None


def refuse_faults(rows: Sequence[dict[str, Any]]) -> None:
    """Raises `WeightsError` if a model failed `verify`."""
    faults = [row["fault"] for row in rows if row["fault"]]
    if faults:
        raise WeightsError(faults[0] + (f" (and {len(faults) - 1} more)" if faults[1:] else ""))


def import_model(path: Path, overwrite: bool, reporter: Reporter) -> str:
    """Copy a weight file, or a folder made by `uad export`, into the cache; returns its name there.

    Raises `WeightsError` if it is not a model of `uad`, does not match its registry, or its name is taken.
    """
    if not path.exists():
        raise WeightsError("no such file or folder", path=path, hint="Check the path.")
    file, sha256 = weights.find(str(path))
    loaded = weights.load(file, sha256)
    card = file.with_name(f"{loaded.card.name}.md")
    known = cache.weights_sha256(card) if card.exists() else None
    entry = Entry(loaded.card.name, f"{loaded.card.name}.safetensors", loaded.sha256, loaded.card.contrasts, known)
    _refuse_name(entry)
    place = cache.place(cache.IMPORTED, entry.name)
    try:
        _into_cache(entry, file, card if known else None, place, overwrite, reporter)
    except OSError as error:
        raise cache.unwritable(error, place) from error
    return entry.name


def _into_cache(entry: Entry, file: Path, card: Path | None, place: Path, overwrite: bool, reporter: Reporter) -> None:
    with cache.filling(place, reporter.info):
        held = cache.holds(place)
        if held and held.sha256 != entry.sha256 and not overwrite:
            raise WeightsError(f"another model is called {entry.name}", path=place, hint="Give --overwrite.")
        with cache.scratch(place) as part:
            shutil.copyfile(file, part / entry.file)
            if card:
                shutil.copyfile(card, part / entry.card)
            registry.write(part, entry)
            cache.publish(part, entry, place)


def _refuse_name(entry: Entry) -> None:
    """Raises `WeightsError` for a name that is not a valid folder name or belongs to another bundled model."""
    registry.check(entry)
    if any(other.name == entry.name and other.sha256 != entry.sha256 for other in registry.bundled()):
        hint = "Export it to a folder with another name."
        raise WeightsError(f"a bundled model is called {entry.name}", hint=hint)


def push(
    folder: Path, repo: str, private: bool, message: str | None, reporter: Reporter, others: Sequence[Path] = ()
) -> str:
    """Publish an exported model (weights, manifest and card) as one commit in a repository on the Hub.

    The page of the repository shows the card, and those of `others` that it also contains. Returns
    `hf://owner/repo@commit`. Raises `WeightsError`.
    """
    file, sha256 = weights.find(str(folder)) if folder.exists() else (folder, None)
    loaded = weights.load(file, sha256)
    name = loaded.card.name
    card = file.with_name(f"{name}.md")
    text, *shown = map(_card_text, (card, *others))
    entry = Entry(name, f"{name}.safetensors", loaded.sha256, loaded.card.contrasts, cache.weights_sha256(card))
    registry.check(entry)
    files: dict[str, Path | bytes] = {
        entry.file: file,
        entry.card: card,
        "README.md": "\n".join([hub.front_matter(loaded.card.licence) + text, *shown]).encode(),
        registry.FILE: registry.as_toml(entry).encode(),
    }
    with reporter.stage("push"):
        return str(hub.upload(repo, files, private, message or f"{name}, made by uad {__version__}"))


def _card_text(card: Path) -> str:
    try:
        return card.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError("the model card cannot be read", path=card, hint="`uad export` writes one.") from error


def _entry_of(path: Path) -> Entry:
    """The registry entry of a file, or one made from its card."""
    if (path.parent / registry.FILE).exists():
        for entry in registry.read(path.parent):
            if entry.file == path.name:
                return entry
    card = weights.read_card(path)
    return Entry(card.name, path.name, cache.weights_sha256(path), card.contrasts)


def _copy(entry: Entry, source: Path, output: Path, overwrite: bool) -> Path:
    """Copy a model into a folder, for `--weights` and `uad weights import`."""
    registry.refuse_taken(output, entry.file, overwrite)
    card = source / entry.card
    known = cache.weights_sha256(card) if card.exists() else None
    entry = dataclasses.replace(entry, card_sha256=known)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with cache.scratch(output) as part:
            shutil.copyfile(source / entry.file, part / entry.file)
            if known:
                shutil.copyfile(card, part / entry.card)
            registry.write(part, entry)
            cache.publish(part, entry, output)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", path=output, hint="Choose another folder.") from error
    return output / entry.file
