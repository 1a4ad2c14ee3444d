"""The record of a way of adapting a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from uadcli.arrays import Array, Mask
from uadcli.config import ReconstructionConfig
from uadcli.imaging.slices import occupied, to_slices

if TYPE_CHECKING:
    from uadcli.model.model import Adaptation, Model
    from uadcli.reconstruction.fitting import ScanSlices
    from uadcli.reconstruction.reconstructors import Method

Learnt = Mapping[str, Array]  # from one scan; what the cache keeps of it


@dataclass(frozen=True)
class Way:
    """A way of adapting a model to a scanner: what it learns from a healthy scan, and how that adapts a model.

    `learn` gets the unadapted model, a scaled scan (96, 96, 80) in [0, 1], its brain mask and the settings; it returns
    arrays of the sizes `sizes`. `adaptation` makes one of those of several scans. `cites` are keys of
    `report.citation`. `serves` says whether the network of a method can be adapted so.
    """

    name: str
    learn: Callable[[Model, Array, Mask, ReconstructionConfig], Learnt]
    sizes: Callable[[Model], dict[str, tuple[int, ...]]]
    adaptation: Callable[[Model, Sequence[Learnt]], Adaptation]
    serves: Callable[[Method], bool]
    cites: tuple[str, ...] = ()


@dataclass(frozen=True)
class OfScan:
    """A way of adapting a model to the scan that it examines; the rest as in `Way`.

    `adaptation` gets the unadapted model, the scaled scan (96, 96, 80) in [0, 1], its brain mask and the settings.
    """

    name: str
    adaptation: Callable[[Model, Array, Mask, ReconstructionConfig], Adaptation]
    serves: Callable[[Method], bool]
    cites: tuple[str, ...] = ()


def slices_of(x: Array, mask: Mask) -> ScanSlices:
    """The slices of a scaled scan (96, 96, 80) that have brain, with their masks."""
    from uadcli.reconstruction.fitting import ScanSlices

    indices = occupied(mask)
    return ScanSlices(to_slices(x)[indices], to_slices(mask)[indices], indices)
