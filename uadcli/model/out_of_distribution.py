"""The out-of-distribution check of a model: fitted to its training scans, applied to a scan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.config import PreprocessConfig
from uadcli.data.dataset import Case
from uadcli.data.healthy import brain_slices, healthy_slices
from uadcli.data.prepare import prepare_cached
from uadcli.imaging.slices import GRID_SHAPE, to_slices
from uadcli.model import hand
from uadcli.model.hand import HandGate
from uadcli.running.stage import Progress, unseen
from uadcli.scoring import out_of_distribution
from uadcli.scoring.out_of_distribution import Gate, Part

if TYPE_CHECKING:
    from uadcli.model.model import Model
    from uadcli.reconstruction.model import Network

BATCH = 32
MIN_TRAINING, MIN_HELD_OUT = 10, 5  # scans of a contrast needed for its check
ABSENT = "these weights have no distribution of training scans for this contrast"
FEW = "too little of this scan overlaps the brain of the training scans"
NO_ENCODER = "this model has no encoder"


@dataclass(frozen=True)
class Distance:
    """The distance of a scan from the training scans, and the limit beyond which it is unlike them; None with a `note`.

    `check` is the kind of out-of-distribution check, None if there is none. A scan without overlap with the training
    scans has no distance, and counts as unlike them.
    """

    value: float | None
    limit: float | None
    note: str = ""
    check: str | None = None

    @property
    def nowhere(self) -> bool:
        """Whether the scan hardly overlaps with the training scans."""
        return self.note == FEW

    @property
    def beyond(self) -> bool | None:
        """Whether the scan is unlike the training scans; None if unknown."""
        if self.nowhere:
            return True
        return None if self.value is None or self.limit is None else self.value > self.limit


def vectors(model: Network, x: Array, slices: NDArray[np.integer], device: str | None = None) -> NDArray[np.float32]:
    """Condition vectors (N, d) of the given axial slices of a scaled scan x (96, 96, 80), in float32.

    On a device, by default that which the model is on.
    """
    import torch

    from uadcli.reconstruction.reconstructors.base import device_of

    stack, where = to_slices(x), device or device_of(model)
    model = model.eval().to(where)
    found = []
    with torch.inference_mode():
        for start in range(0, len(slices), BATCH):
            batch = torch.from_numpy(stack[slices[start : start + BATCH]][:, None]).to(where)
            encoded = model.encode(batch)
            found.append(np.zeros((len(batch), 0), np.float32) if encoded is None else encoded.float().cpu().numpy())
    return np.concatenate(found)


def has_encoder(model: Network) -> bool:
    """Whether the model has an encoder of the scan (cDDPM and Dif-fuse); the vectors of a VAE are not suitable."""
    return getattr(model, "encoder", None) is not None


def measure(model: Model, x: Array, mask: NDArray[np.bool_], contrast: str) -> Distance:
    """The distance of a scaled scan (96, 96, 80) from the training scans of its contrast.

    An adapted model has that of the unadapted one, for which the limit was found.
    """
    network, known = model.weights.model, gate_of(model.weights.gate_state, contrast)
    if not (has_encoder(network) or isinstance(known, HandGate)):
        return Distance(None, None, NO_ENCODER)
    if known is None:
        return Distance(None, None, ABSENT)
    slices = brain_slices(mask)
    value = _value(model, known, x, slices) if len(slices) else None
    return Distance(value, known.limit, "" if value is not None else FEW, known.kind)


def _value(model: Model, known: Gate | HandGate, x: Array, slices: NDArray[np.integer]) -> float | None:
    """The distance of a scaled scan from its `slices` (N,); None if they hardly overlap with the training scans."""
    if isinstance(known, HandGate):
        return known.score(x, slices)
    part = (vectors(model.weights.model, x, slices, model.device), slices)
    return out_of_distribution.distance(known.mean, known.whitening, part)


def enough(training: Sequence[Case], held_out: Sequence[Case]) -> list[str]:
    """The contrasts with enough training and held-out scans for a check, in alphabetical order."""
    least = ((training, MIN_TRAINING), (held_out, MIN_HELD_OUT))
    contrasts = {str(c.contrast) for c in held_out}
    return [k for k in sorted(contrasts) if all(sum(c.contrast == k for c in cases) >= n for cases, n in least)]


def fit_gates(
    model: Network,
    training: Sequence[Case],
    held_out: Sequence[Case],
    cache: Path,
    config: PreprocessConfig,
    progress: Progress = unseen,
) -> dict[str, Gate]:
    """The check of each contrast with enough training and held-out scans. Raises as `prepare`.

    Of patients, only slices without lesion are used.
    """
    if not has_encoder(model):
        return {}

    def of(cases: Sequence[Case], contrast: str) -> list[Part]:
        return parts(model, [c for c in cases if c.contrast == contrast], cache, config, progress)

    return {
        contrast: out_of_distribution.fit(of(training, contrast), of(held_out, contrast), GRID_SHAPE[2])
        for contrast in enough(training, held_out)
    }


def parts(
    model: Network, cases: Sequence[Case], cache: Path, config: PreprocessConfig, progress: Progress = unseen
) -> list[Part]:
    """Condition vectors and indices of the healthy slices of each scan that has any. Raises as `prepare`."""
    found: list[Part] = []
    for done, case in enumerate(cases):
        progress(done, len(cases))
        prepared = prepare_cached(case.scan, config, cache)
        slices = healthy_slices(case, prepared)
        if len(slices):
            found.append((vectors(model, prepared.scaled(config), slices), slices))
    return found


def gate_of(state: dict[str, Any], contrast: str) -> Gate | HandGate | None:
    """The check of a contrast from the tensors of a weight file; None if there is none."""
    if f"{contrast}.mean" not in state:
        return hand.gate_of(state, contrast)
    mean, whitening, limit = (state[f"{contrast}.{name}"].numpy() for name in ("mean", "whitening", "limit"))
    return Gate(mean, whitening, float(limit))


def state_of(gates: Mapping[str, Gate | HandGate]) -> dict[str, Any]:
    """Checks by contrast as tensors for a weight file: float16, to which they have been rounded, and the limit."""
    import torch

    state: dict[str, Any] = {}
    for contrast, one in gates.items():
        if isinstance(one, HandGate):
            state |= hand.state_of(contrast, one)
            continue
        state[f"{contrast}.mean"] = torch.from_numpy(one.mean).half()
        state[f"{contrast}.whitening"] = torch.from_numpy(one.whitening).half()
        state[f"{contrast}.limit"] = torch.tensor(one.limit, dtype=torch.float32)
    return state
