"""Weights: where they are, that they are what they should be, and reading and writing them (safetensors only)."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uadcli.config import CONTRASTS, ModelConfig, from_dict, to_dict
from uadcli.errors import WeightsError
from uadcli.reconstruction.model import ConditionedDiffusion

if TYPE_CHECKING:
    from torch import Tensor

KEY = "uad"  # of the one metadata entry
SCORE_PREFIX = "score."  # of the tensors of a score network, which lie in the same file
GATE_PREFIX = "gate."  # of the tensors of the out-of-distribution gate
FLOAT16_MAX = 65504.0


@dataclass(frozen=True)
class ModelCard:
    """What a weight file says of itself. `scores` names the default score of each contrast, `thresholds` are by score
    and contrast.

    `strengths` are those of whole healthy scans (`scoring.calibration.strength`), by score and contrast.
    `siamese` holds the settings of the score network, if one is in the file.
    """

    name: str
    version: str
    contrasts: tuple[str, ...]
    scores: dict[str, str]
    thresholds: dict[str, dict[str, float]]
    threshold_rule: str
    levels: tuple[int, ...]
    intensity_range: str
    training_data: str
    licence: str
    steps: int = 0
    siamese: dict[str, Any] | None = None
    strengths: dict[str, dict[str, list[float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """A model ready to use, with its card and the digest of the file it came from.

    `score_state` are the parameters of the score network that belongs to it; empty if there is none. `gate_state` are
    the tensors of the out-of-distribution gate, `CONTRAST.mean`, `CONTRAST.whitening` and `CONTRAST.limit`; empty in
    weights that are older than the gate.
    """

    model: ConditionedDiffusion
    card: ModelCard
    path: Path
    sha256: str
    score_state: dict[str, Any] = field(default_factory=dict, repr=False)
    gate_state: dict[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Entry:
    """A line of `registry.toml`: a file of the weights folder, its digest, and the contrasts it covers."""

    name: str
    file: str
    sha256: str
    contrasts: tuple[str, ...]


def folder() -> Path:
    """The weights folder: `UAD_WEIGHTS_DIR`, else the one in the installed package, else the repository's."""
    if "UAD_WEIGHTS_DIR" in os.environ:
        return Path(os.environ["UAD_WEIGHTS_DIR"])
    package = Path(__file__).parents[1]
    installed = package / "_weights"
    return installed if installed.is_dir() else package.parent / "weights"


def registry() -> list[Entry]:
    """The entries of the folder's registry, the default first. Raises `WeightsError` if it is missing or damaged."""
    file = folder() / "registry.toml"
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
        return [Entry(m["name"], m["file"], m["sha256"], tuple(m["contrasts"])) for m in table["model"]]
    except OSError as error:
        raise WeightsError(
            "cannot be read", path=file, hint="Install the package again, or set UAD_WEIGHTS_DIR."
        ) from error
    except (tomllib.TOMLDecodeError, KeyError) as error:
        raise WeightsError("is damaged", path=file, hint="Install the package again.") from error


def write_registry(place: Path, entry: Entry, comment: str = "") -> None:
    """Write the `registry.toml` of a folder with one model."""
    covered = json.dumps(entry.contrasts)
    (place / "registry.toml").write_text(
        f'{comment}[[model]]\nname = "{entry.name}"\nfile = "{entry.file}"\nsha256 = "{entry.sha256}"\n'
        f"contrasts = {covered}\n",
        encoding="utf-8",
    )


def find(name_or_path: str | None, contrast: str | None = None) -> tuple[Path, str | None]:
    """The weight file for a name, a path or, with None, a contrast; and the digest it must have, if that is known.

    Raises `WeightsError` if there is none; a contrast that no model covers is said so.
    """
    if name_or_path is None:
        for entry in registry():
            if contrast is None or contrast in entry.contrasts:
                return folder() / entry.file, entry.sha256
        covered = sorted({c for e in registry() for c in e.contrasts}, key=CONTRASTS.index)
        raise WeightsError(f"no model covers {contrast}", hint=f"Covered: {', '.join(covered)}. Or give --weights.")
    path = Path(name_or_path)
    if path.is_dir():
        files = sorted(path.glob("*.safetensors"))
        if len(files) != 1:
            raise WeightsError(f"holds {len(files)} .safetensors files, not one", path=path, hint="Name the file.")
        return files[0], None
    if path.exists():
        return path, None
    for entry in registry():
        if entry.name == name_or_path:
            return folder() / entry.file, entry.sha256
    known = ", ".join(e.name for e in registry())
    raise WeightsError(f"there are no weights {name_or_path!r}", hint=f"Known: {known}. Or give a path.")


def load(path: Path, sha256: str | None = None) -> Weights:
    """Read a weight file and build its model, in evaluation mode and float32.

    Raises `WeightsError` if it is missing, differs from the digest, is damaged, or is not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f"cannot be read: {error.strerror}", path=path, hint="Check the path.") from error
    if sha256 is not None and digest != sha256:
        raise WeightsError(
            "the file is not the one in the registry (sha256 differs)", path=path, hint="Install it again."
        )
    try:
        with safe_open(path, framework="pt") as stream:
            text = (stream.metadata() or {}).get(KEY)
            stored = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError("is damaged or no safetensors file", path=path, hint="Copy it again.") from error
    if text is None:
        raise WeightsError("does not say what model it holds", path=path, hint="Use weights made by `uad`.")
    tensors = {name: value.float() if value.is_floating_point() else value for name, value in stored.items()}
    of_score, of_gate = (_taken(tensors, prefix) for prefix in (SCORE_PREFIX, GATE_PREFIX))
    try:
        values = json.loads(text)
        model = ConditionedDiffusion(from_dict(ModelConfig, values.pop("model")))
        model.load_state_dict(tensors)
        for key in ("contrasts", "levels"):
            values[key] = tuple(values[key])
        card = ModelCard(**values)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError(
            "does not fit this version of uad", path=path, hint="Use weights of this version."
        ) from error
    return Weights(model.eval(), card, path, digest, of_score, of_gate)


def _taken(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the tensors with a prefix out of all; their names without it."""
    return {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def save(
    path: Path,
    model: ConditionedDiffusion,
    card: ModelCard,
    score_state: dict[str, Any] | None = None,
    gate_state: dict[str, Any] | None = None,
) -> str:
    """Write a model, and the network of its score, as float16 safetensors with configuration and card.

    Atomic; counters and values beyond float16 keep their type, the gate is written as it is. Returns the sha256.
    """
    from safetensors.torch import save as to_bytes

    state = dict(model.state_dict())
    state |= {SCORE_PREFIX + name: value for name, value in (score_state or {}).items()}
    tensors = {name: _compact(value.detach()).contiguous() for name, value in state.items()}
    tensors |= {GATE_PREFIX + name: value.contiguous() for name, value in (gate_state or {}).items()}
    content = to_bytes(tensors, {KEY: json.dumps({**asdict(card), "model": to_dict(model.config)})})
    temporary = path.with_name(f".{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return hashlib.sha256(content).hexdigest()


def _compact(value: Tensor) -> Tensor:
    """As float16 where that loses no more than digits."""
    fits = value.is_floating_point() and bool((value.abs() <= FLOAT16_MAX).all())
    return value.half() if fits else value
