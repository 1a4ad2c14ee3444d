"""Weights: finding, verifying, reading and writing them (safetensors only)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli.config import CONTRASTS, ModelConfig, to_dict
from uadcli.console import Reporter
from uadcli.errors import WeightsError
from uadcli.files import write_bytes
from uadcli.weights import cache, checks, hub, registry
from uadcli.weights.card import ModelCard
from uadcli.weights.hub import Reference
from uadcli.weights.registry import Entry

if TYPE_CHECKING:
    from torch import Tensor

    from uadcli.reconstruction.model import Network

KEY = "uad"  # of the one metadata entry
SCORE_PREFIX = "score."  # of the tensors of a score network, which lie in the same file
GATE_PREFIX = "gate."  # of the tensors of the out-of-distribution check
REFERENCE_PREFIX = "reference."  # of those of the healthy reference
FLOAT16_MAX = 65504.0
OTHER_VERSION = "does not fit this version of uad"


@dataclass(frozen=True)
class Weights:
    """The content of a weight file: networks, card, statistics of healthy scans, and the digest of the file.

    `score_state` are the parameters of the score network, `gate_state` the tensors of the out-of-distribution check
    (`CONTRAST.limit` with `CONTRAST.mean` and `CONTRAST.whitening`, or those of HAND), and `reference_state` those of
    the healthy references (`SCORE.CONTRAST.mean` and `SCORE.CONTRAST.deviation`); each is empty if the file has none.
    """

    model: Network
    card: ModelCard
    path: Path
    sha256: str
    score_state: dict[str, Any] = field(default_factory=dict, repr=False)
    gate_state: dict[str, Any] = field(default_factory=dict, repr=False)
    reference_state: dict[str, Any] = field(default_factory=dict, repr=False)


def find(
    name_or_path: str | None, *contrasts: str | None, download: bool = True, reporter: Reporter | None = None
) -> tuple[Path, str | None]:
    """The weight file for a name, a path, `hf://owner/repo@commit` or, with None, `contrasts`; and its expected sha256,
    None if unknown.

    Paths have precedence, then bundled and cached models, then the Hub, which needs `download`; `reporter` then
    shows its progress. Bundled models are identified by sha256, so that no cached model can replace them. Raises
    `WeightsError` if there is none, or no model covers the contrasts.
    """
    if name_or_path is None:
        return _of_entry(default(*contrasts), download, reporter)
    if name_or_path.startswith(hub.SCHEME):
        return _of_hub(hub.parse(name_or_path), None, download, reporter)
    path = Path(name_or_path)
    try:
        there = path.exists()
    except OSError as error:  # in a closed folder, or a name that is too long
        raise WeightsError(f"cannot be read: {error.strerror}", path=path, hint="Check the path.") from error
    if there:
        return _on_disk(path)
    known = registry.bundled()
    for entry in known:
        if entry.name == name_or_path:
            return _of_entry(entry, download, reporter)
    cached = [(m.folder, m.entry) for m in cache.models() if m.entry and m.entry.name == name_or_path]
    if len({entry.sha256 for _, entry in cached}) > 1:
        hint = "Give the path or the hf:// of one (see `uad weights list`)."
        raise WeightsError(f"{len(cached)} cached models are called {name_or_path!r}", hint=hint)
    for place, entry in cached[:1]:
        return place / entry.file, entry.sha256
    names = sorted({entry.name for entry in known} | {m.entry.name for m in cache.models() if m.entry})
    raise WeightsError(f"unknown weights {name_or_path!r}", hint=f"Known: {', '.join(names)}. Or give a path.")


def default(*contrasts: str | None) -> Entry:
    """The first bundled model that covers these contrasts, of which None is one that is not known: any model will do.

    Raises `WeightsError` if there is none.
    """
    known, wanted = registry.bundled(), [contrast for contrast in contrasts if contrast is not None]
    for entry in known:
        if set(wanted) <= set(entry.contrasts):
            return entry
    covered = sorted({c for e in known for c in e.contrasts}, key=CONTRASTS.index)
    what = f"no model covers {' and '.join(wanted) or 'any contrast'}"
    raise WeightsError(what, hint=f"Covered: {', '.join(covered)}. Or give --weights.")


def on_hub_only() -> list[Entry]:
    """The bundled models whose files would have to be downloaded."""
    cached = {model.entry.sha256 for model in cache.models() if model.entry and model.path and model.path.exists()}
    absent = [entry for entry in registry.bundled() if entry.repo and not (registry.folder() / entry.file).exists()]
    return [entry for entry in absent if entry.sha256 not in cached]


def first_here() -> tuple[Path, str] | None:
    """The file of the first bundled model that need not be downloaded, and its sha256; None if there is none."""
    away = on_hub_only()
    entry = next((one for one in registry.bundled() if one not in away), None)
    return None if entry is None else _of_entry(entry, False, None)


def _of_entry(entry: Entry, download: bool, reporter: Reporter | None) -> tuple[Path, str]:
    """A registered model: from the cache by its digest, from the weights folder, or from the Hub."""
    for model in cache.models():
        if model.entry and model.entry.sha256 == entry.sha256 and (model.folder / model.entry.file).exists():
            return model.folder / model.entry.file, entry.sha256
    path = registry.folder() / entry.file
    if entry.repo and entry.commit and not path.exists():
        return _of_hub(Reference(entry.repo, entry.commit), entry.sha256, download, reporter)
    return path, entry.sha256


def _of_hub(reference: Reference, sha256: str | None, download: bool, reporter: Reporter | None) -> tuple[Path, str]:
    if not download and cache.holds(reference.place, sha256) is None:
        raise WeightsError(f"{reference} is not in the cache", hint=f"Get it: uad weights download {reference}")
    return hub.fetch(reference, sha256, reporter)


def _on_disk(path: Path) -> tuple[Path, str | None]:
    """The only weight file of a folder, or the file itself; and its sha256 if the registry next to it has it."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if len(files) != 1:
        raise WeightsError(f"contains {len(files)} .safetensors files instead of one", path=path, hint="Name the file.")
    file = files[0]
    if file.suffix != ".safetensors":
        hint = "Only .safetensors files are read: other formats can run code when they are opened."
        raise WeightsError("is not a .safetensors file", path=file, hint=hint)
    entries = registry.read(file.parent, "Remove or fix it.") if (file.parent / registry.FILE).exists() else []
    return file, next((entry.sha256 for entry in entries if entry.file == file.name), None)


def load(path: Path, sha256: str | None = None) -> Weights:
    """Read a weight file and build its model, in evaluation mode and float32.

    Raises `WeightsError` if it is missing, has another sha256 (a cached file is then removed), is damaged, or was not
    made by uad.
    """
    digest = cache.weights_sha256(path)
    if sha256 is not None and digest != sha256:
        raise cache.refuse(path, sha256)
    text, stored = _content(path)
    card, config = _described(text, path)
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}
    score, gate, reference = (_taken(tensors, prefix) for prefix in (SCORE_PREFIX, GATE_PREFIX, REFERENCE_PREFIX))
    means = {GATE_PREFIX + name for name in gate if name.endswith(".mean")}  # NaN where no training scan has brain
    fault = (
        checks.value_fault({n: t for n, t in stored.items() if n not in means})
        or checks.gate_fault(gate)
        or checks.reference_fault(reference)
    )
    if fault := fault or _network_fault(card, config, tensors, score):
        raise WeightsError(f"{OTHER_VERSION}: {fault}", path=path, hint="Use weights of this version.")
    return Weights(_network(config, tensors), card, path, digest, score, gate, reference)


def _content(path: Path) -> tuple[str | None, dict[str, Tensor]]:
    """The metadata entry of a weight file, and its tensors as they are stored. Raises `WeightsError`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as stream:
            text = (stream.metadata() or {}).get(KEY)
            return text, {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError("is damaged or not a safetensors file", path=path, hint="Copy it again.") from error
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}", path=path, hint="Check the path.") from error


def _network(config: ModelConfig, tensors: dict[str, Tensor]) -> Network:
    from uadcli.reconstruction.reconstructors import build

    model = build(config)
    model.load_state_dict(tensors)
    return model.eval()


def _network_fault(card: ModelCard, config: ModelConfig, tensors: dict[str, Tensor], score: dict[str, Tensor]) -> str:
    """Why tensors do not fit the described networks; empty if they do. Checked without allocating the networks."""
    import torch

    from uadcli.reconstruction.reconstructors import build
    from uadcli.scoring.siamese import SiameseUNet

    try:
        with torch.device("meta"):
            needed = dict(build(config).state_dict())
            if sizes := card.score_network:
                needed |= {SCORE_PREFIX + name: value for name, value in SiameseUNet(sizes).state_dict().items()}
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        return f"its sizes do not make a network ({error})"
    found = tensors | {SCORE_PREFIX + name: value for name, value in score.items()}
    return checks.shape_fault({n: t.shape for n, t in found.items()}, {n: t.shape for n, t in needed.items()})


def read_card(path: Path, sha256: str | None = None) -> ModelCard:
    """The card of a weight file, without its tensors; the sha256 is checked only if the file cannot be read.

    Raises `WeightsError` as `load` does.
    """
    try:
        return _described(_header(path), path)[0]
    except WeightsError as error:
        if sha256 is not None and path.exists() and cache.weights_sha256(path) != sha256:
            raise cache.refuse(path, sha256) from error
        raise


def trained_method(path: Path) -> str:
    """The method that a weight file was trained for, from its header alone. Raises `WeightsError` as `load`."""
    return _described(_header(path), path)[1].method


def _header(path: Path) -> str | None:
    """The metadata entry of a weight file, without its tensors."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as stream:
            return (stream.metadata() or {}).get(KEY)
    except SafetensorError as error:
        raise WeightsError("is damaged or not a safetensors file", path=path, hint="Copy it again.") from error
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror or error}", path=path, hint="Check the path.") from error


def _described(text: str | None, path: Path) -> tuple[ModelCard, ModelConfig]:
    """Card and configuration from a file's metadata entry."""
    if text is None:
        raise WeightsError("does not describe the model in it", path=path, hint="Use weights made by `uad`.")
    try:
        values, config = checks.read_description(text, ModelCard)
    except ValueError as error:
        raise WeightsError(f"{OTHER_VERSION}: {error}", path=path, hint="Use weights of this version.") from error
    for key in ("contrasts", "levels"):
        values[key] = tuple(values[key])
    return ModelCard(**values), config


def _taken(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove the tensors with a prefix from all, and return them without the prefix."""
    return {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def save(
    path: Path,
    model: Network,
    card: ModelCard,
    score_state: dict[str, Any] | None = None,
    gate_state: dict[str, Any] | None = None,
    reference_state: dict[str, Any] | None = None,
) -> str:
    """Write a model and its score network atomically as float16 safetensors, with configuration and card.

    Counters and values beyond float16 keep their type; out-of-distribution check and reference keep their values, which
    `load` has widened. Returns the sha256.
    """
    from safetensors.torch import save as to_bytes

    state = dict(model.state_dict())
    state |= {SCORE_PREFIX + name: value for name, value in (score_state or {}).items()}
    tensors = {name: _compact(value.detach()).contiguous() for name, value in state.items()}
    for prefix, given in ((GATE_PREFIX, gate_state), (REFERENCE_PREFIX, reference_state)):
        tensors |= {prefix + name: _narrowed(value).contiguous() for name, value in (given or {}).items()}
    content = to_bytes(tensors, {KEY: json.dumps({**asdict(card), "model": to_dict(model.config)})})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()


def _narrowed(value: Tensor) -> Tensor:
    """As float16 if no value changes by it."""
    small = value.half() if value.is_floating_point() else value
    return small if bool((small.to(value.dtype) == value).all()) else value


def _compact(value: Tensor) -> Tensor:
    """As float16 if the values are within its range."""
    fits = value.is_floating_point() and bool((value.abs() <= FLOAT16_MAX).all())
    return value.half() if fits else value
