"""HAND as the out-of-distribution check of a model (arXiv 2409.11534), next to `scoring.out_of_distribution`.

It sees the scan alone, so it also serves models without an encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from uadcli.arrays import Array
from uadcli.errors import InputError
from uadcli.imaging.slices import to_slices
from uadcli.scoring.out_of_distribution import MARGIN
from uadcli.settings.training import HAND

if TYPE_CHECKING:
    from uadcli.reconstruction.hand import Hand

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class HandGate:
    """A trained network; `centre` (2,) and `spread` (2,), mean and standard deviation of reconstruction error and
    log-odds among held-out healthy scans; and the `limit` of a scan's score."""

    kind: ClassVar[str] = HAND
    network: Hand
    centre: Floats
    spread: Floats
    limit: float

    def score(self, x: Array, slices: NDArray[np.integer]) -> float:
        """The score of a scaled scan (96, 96, 80) from its axial `slices` (N,): error plus log-odds, each in standard
        deviations from the held-out scans; below 0 for a scan more typical than their mean."""
        return float(((parts(self.network, x, slices) - self.centre) / self.spread).sum())


def parts(network: Hand, x: Array, slices: NDArray[np.integer]) -> Floats:
    """Reconstruction error and log-odds of OOD (2,) of a scaled scan (96, 96, 80): medians over its `slices` (N,).

    The paper weighs the losses of both. Here the log-odds replace the discriminator's loss, which is next to 0 for all
    in-distribution scans.
    """
    import torch

    from uadcli.reconstruction.hand import shrunk

    with torch.inference_mode():
        found = network(shrunk(torch.from_numpy(to_slices(x)[slices])))
    return np.array([float(one.median()) for one in found])


def gate(network: Hand, held_out: Sequence[tuple[Array, NDArray[np.integer]]]) -> HandGate:
    """The check of a trained network, from held-out healthy scans: scaled volumes (96, 96, 80) and their slices (N,).

    The limit is `MARGIN` times the largest score of the held-out scans, as in the other check. Raises `InputError` if
    there are fewer than two, or if they do not differ.
    """
    measured = np.array([parts(network, *one) for one in held_out])
    if len(measured) < 2 or not measured.std(axis=0).min() > 0:
        raise InputError("HAND needs different held-out healthy scans", hint="Give more healthy scans.")
    centre, spread = (measured.mean(axis=0).astype(np.float32), measured.std(axis=0).astype(np.float32))
    return HandGate(network, centre, spread, MARGIN * float(((measured - centre) / spread).sum(axis=1).max()))


def gate_of(state: dict[str, Any], contrast: str) -> HandGate | None:
    """The check of a contrast from the tensors of a weight file; None if there is none of this kind."""
    from uadcli.reconstruction.hand import Hand

    prefix = f"{contrast}.hand."
    trained = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    if not trained:
        return None
    network = Hand()
    network.load_state_dict(trained)
    centre, spread, limit = (state[f"{contrast}.{name}"].numpy() for name in ("centre", "spread", "limit"))
    return HandGate(network.eval(), centre, spread, float(limit))


def state_of(contrast: str, one: HandGate) -> dict[str, Any]:
    """The check of a contrast as tensors for a weight file; the network as float16, to which the fit has rounded it."""
    import torch

    state = {f"{contrast}.hand.{name}": value.half() for name, value in one.network.state_dict().items()}
    state |= {f"{contrast}.{name}": torch.from_numpy(getattr(one, name)) for name in ("centre", "spread")}
    return state | {f"{contrast}.limit": torch.tensor(one.limit, dtype=torch.float32)}
