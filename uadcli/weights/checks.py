"""Validation of weight files: a fault in words, or an empty text.

A file may come from anywhere. Its sha256 shows that it is the published one, not that its content is valid.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from uadcli.config import CONTRASTS, ModelConfig, PreprocessConfig, SiameseConfig, from_dict
from uadcli.errors import UsageError
from uadcli.scoring import scores
from uadcli.typed import misfit
from uadcli.weights.registry import is_plain

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = {"steps": 10**9, "seed": 2**63, "batch_size": 10**6, "warmup": 10**9, "checkpoint_every": 10**9}
LARGEST_SIZE = 4096  # of any other whole number of a network: channels, blocks, dimensions
LONGEST = 8  # tuple of sizes
RANGES = {
    "along_slices": (0.0, 100.0),
    "guide_radius": (0, 48),
    "fusion_power": (0.0, 100.0),
    "reference_erosion": (0, 50),
    "curvature_flow": (0, 1000),
    "labelled_cases": (0, 10**9),
    "steps": (0, 10**12),
    "degraded": (0, 1000),
    "odds_outside_white_matter": (1e-6, 1.0),
}
# what cards of earlier versions do not say, and what holds for them; the second of the score network
ADDED = {"guide_radius": 0, "degraded": 0, "without_shading": False, "odds_outside_white_matter": 1.0}
ADDED_TO_SCORE = {"headroom": False}


def read_description(text: str, card: type[Any]) -> tuple[dict[str, Any], ModelConfig]:
    """The values of a `card` (a dataclass) and the configuration in a file's JSON. Raises `ValueError` for a fault."""
    try:
        values = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict) or not isinstance(values.get("model"), dict):
        raise ValueError("it does not describe a model")
    described = values.pop("model")
    for name, value in ADDED.items():
        values.setdefault(name, value)
    if missing := sorted({field.name for field in dataclasses.fields(card)} - set(values)):
        raise ValueError(f"{missing[0]} is missing")
    if fault := misfit(card, values) or _card_fault(values):
        raise ValueError(fault)
    try:
        config = from_dict(ModelConfig, described)
        from_dict(PreprocessConfig, values["preprocess"])
        siamese = from_dict(SiameseConfig, values["siamese"]) if values["siamese"] is not None else None
    except UsageError as error:
        raise ValueError(error.what) from error
    for part in (config, siamese):
        if part is not None and (fault := _size_fault(dataclasses.asdict(part))):
            raise ValueError(fault)
    if not all(1 <= level <= config.steps for level in values["levels"]):
        raise ValueError("levels lie beyond the steps of the noise")
    return values, config


def _card_fault(values: Mapping[str, Any]) -> str:
    """An invalid value in a card whose fields have the right types."""
    contrasts = values["contrasts"]
    if not is_plain(values["name"]):
        return f"{values['name']!r} is not a valid name"
    if not contrasts or not set(contrasts) <= set(CONTRASTS) or len(set(contrasts)) < len(contrasts):
        return "contrasts are empty, unknown or repeated"
    if missing := [one for one in contrasts if values["scores"].get(one) not in scores.names()]:
        return f"scores has no known score for {missing[0]}"
    for name, (low, high) in RANGES.items():
        if not low <= values[name] <= high:
            return f"{name} is outside {low} to {high}"
    rates = [rate for by in values["tails"].values() for tail in by.values() for rate, _ in tail]
    if not all(0 < rate < 1 for rate in rates):
        return "tails has rates outside 0 to 1"
    for one in values["shares"].values():
        if (
            not one
            or not set(one) <= set(scores.names()) - set(scores.joined())
            or min(one.values()) < 0
            or not sum(one.values())
        ):
            return "shares are not valid"
    return ""


def _size_fault(values: Mapping[str, Any]) -> str:
    """An implausible size of a network, which would take all memory."""
    for name, value in _numbers(values):
        if isinstance(value, tuple) and len(value) > LONGEST:
            return f"{name} has {len(value)} parts"
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, int) and not 0 <= one <= LARGEST.get(name, LARGEST_SIZE):
                return f"{name} is {one}"
    return ""


def _numbers(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value)
        else:
            yield name, value


def shape_fault(shapes: Mapping[str, Iterable[int]], needed: Mapping[str, Iterable[int]]) -> str:
    """The first tensor that is missing, superfluous, or has another shape than the network needs."""
    for name in sorted({*shapes, *needed}):
        if name not in shapes or name not in needed or tuple(shapes[name]) != tuple(needed[name]):
            return f"the tensor {name} does not fit the network"
    return ""


def value_fault(tensors: Mapping[str, Tensor]) -> str:
    """The first tensor with a value that is not finite."""
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            return f"the tensor {name} contains values that are not numbers"
    return ""


def gate_fault(state: Mapping[str, Tensor]) -> str:
    """A tensor of the out-of-distribution check that is missing, superfluous or has another shape."""
    for contrast in {name.split(".")[0] for name in state}:
        shapes = {n.partition(".")[2]: tuple(t.shape) for n, t in state.items() if n.split(".")[0] == contrast}
        needed = _hand_shapes() if any(name.startswith("hand.") for name in shapes) else _cloud_shapes(shapes)
        if contrast not in CONTRASTS or not shapes.keys() >= needed.keys():
            return f"the out-of-distribution check of {contrast} is incomplete"
        if shapes != needed:
            return f"the out-of-distribution check of {contrast} has other sizes"
        if "spread" in shapes and not bool((state[f"{contrast}.spread"] > 0).all()):
            return f"the out-of-distribution check of {contrast} has no spread"
    return ""


def _cloud_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The tensors of a check in the encoder's features, of the size of the whitening."""
    from uadcli.imaging.slices import GRID_SHAPE

    size = (*shapes.get("whitening", ()), 0)[0]
    return {"mean": (GRID_SHAPE[2], size), "whitening": (size, size), "limit": ()}


def _hand_shapes() -> dict[str, tuple[int, ...]]:
    """The tensors of HAND."""
    import torch

    from uadcli.reconstruction.hand import Hand

    with torch.device("meta"):
        network = {f"hand.{name}": tuple(value.shape) for name, value in Hand().state_dict().items()}
    return {"centre": (2,), "spread": (2,), "limit": (), **network}


def reference_fault(state: Mapping[str, Tensor]) -> str:
    """A tensor of the healthy reference that is missing, unknown or has another shape."""
    from uadcli.imaging.slices import GRID_SHAPE

    half = tuple(n // 2 for n in GRID_SHAPE)
    for name, value in state.items():
        found = re.fullmatch(r"(.+)\.(\w+)\.(mean|deviation|places|quantile|spread|width)", name)
        if not found or found[1] not in scores.names() or found[2] not in CONTRASTS:
            return f"the healthy reference contains {name}"
        if tuple(value.shape) != {"quantile": (), "spread": (2,), "width": ()}.get(found[3], half):
            return f"the healthy reference {name} has another size"
    return ""
