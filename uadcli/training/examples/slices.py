"""Healthy slices to train on, from prepared scans: real ones, and other contrasts made from T1w."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uadcli.arrays import Array
from uadcli.config import CONTRASTS, PreprocessConfig
from uadcli.contrasts import FROM_T1W, T1W
from uadcli.data.dataset import Case
from uadcli.data.prepare import Prepared
from uadcli.data.scans import Scans
from uadcli.errors import UsageError
from uadcli.imaging import intensity
from uadcli.imaging.slices import to_slices
from uadcli.running.stage import Progress, unseen
from uadcli.synthesis.anatomy import of_scan
from uadcli.synthesis.contrast import from_t1, volume_from_t1
from uadcli.training.examples.pasted_lesions import LesionSet

SEED = 1618  # of the contrasts made from T1w
REAL_OTHER = 0.35  # share of a batch for each real contrast other than T1w, however few slices it has


@dataclass(frozen=True)
class SliceSet:
    """Slices (N, 96, 96) as uint8 (0..255 for 0..1) and their contrasts (N,) as indices of `CONTRASTS`.

    `made` are the shares of the T1w slices of a batch that are converted to each contrast of `FROM_T1W`. `turned`
    (N, 96, 96) by contrast are the same slices after converting whole volumes, 0 for other contrasts than T1w; without
    them each slice is converted on its own.
    """

    slices: Tensor
    contrast: Tensor
    made: tuple[float, ...] = tuple(one.slices for one in FROM_T1W.values())
    turned: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> SliceSet:
        """The same slices (N, 96, 96) on a device, one byte per pixel."""
        turned = {kind: one.to(device) for kind, one in self.turned.items()}
        return SliceSet(self.slices.to(device), self.contrast.to(device), self.made, turned)

    def only(self, contrasts: Collection[str]) -> SliceSet:
        """The slices (N, 96, 96) to train some contrasts with; if T1w is not among them, all T1w slices are converted.

        Raises `UsageError` for a contrast that these slices cannot provide.
        """
        made = [share * (kind in contrasts) for kind, share in zip(FROM_T1W, self.made, strict=True)]
        if T1W.name not in contrasts:
            made = [share / (sum(made) or 1) for share in made]
        wanted = [CONTRASTS.index(one) for one in contrasts]
        if sum(made):
            wanted.append(CONTRASTS.index(T1W.name))
        keep = torch.isin(self.contrast, torch.tensor(wanted))
        have = {CONTRASTS[code] for code in self.contrast[keep].unique().tolist()}
        if T1W.name in have:
            have |= {kind for kind, share in zip(FROM_T1W, made, strict=True) if share}
        if missing := set(contrasts) - have:
            raise UsageError(f"there are no slices for {', '.join(sorted(missing))}")
        turned = {kind: one[keep] for kind, one in self.turned.items() if kind in contrasts}
        return SliceSet(self.slices[keep], self.contrast[keep], tuple(made), turned)

    def at(self, index: Tensor) -> Tensor:
        """Slices (B, 1, 96, 96) in [0, 1], unconverted."""
        return self.slices[index].float().div(255)[:, None]

    def spread(self, count: int) -> Tensor:
        """The same `count` indices (count,) each time, evenly spaced over all slices."""
        return torch.linspace(0, len(self.slices) - 1, count, device=self.slices.device).long()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices (count,) of a random batch, in which each real contrast but the first has the share `REAL_OTHER`."""
        by_contrast = [torch.nonzero(self.contrast == code).squeeze(1) for code in self.contrast.unique().tolist()]
        if len(by_contrast) == 1:
            return torch.randint(len(self.slices), (count,), generator=generator)
        pick, result = torch.rand(count, generator=generator), torch.empty(count, dtype=torch.long)
        first, *others = by_contrast
        for i, group in enumerate((*others, first)):
            drawn = group[(torch.rand(count, generator=generator) * len(group)).long()]
            from_here = pick >= i * REAL_OTHER
            result[from_here] = drawn[from_here]
        return result

    def batch(self, index: Tensor, generator: torch.Generator) -> Tensor:
        """Slices (B, 1, 96, 96) in [0, 1]; some of the T1w ones converted to other contrasts."""
        x = self.at(index)
        pick = torch.rand(len(index), generator=generator)
        real_t1 = self.contrast[index] == CONTRASTS.index(T1W.name)
        low = 0.0
        for kind, share in zip(FROM_T1W, self.made, strict=True):
            chosen = real_t1 & (pick >= low) & (pick < low + share)
            if chosen.any() and kind in self.turned:
                x[chosen] = self.turned[kind][index[chosen]].float().div(255)[:, None]
            elif chosen.any():
                x[chosen] = from_t1(x[chosen], kind, generator)
            low += share
        return x


@dataclass(frozen=True)
class Split:
    """The slices to train on, those of held-out scans, and the lesions to validate with, if any."""

    train: SliceSet
    validation: SliceSet
    lesions: LesionSet | None = None

    def to(self, device: torch.device) -> Split:
        """The same with all slices on a device."""
        return replace(self, train=self.train.to(device), validation=self.validation.to(device))


def load_slices(
    chosen: Sequence[Case], scans: Scans, kinds: Collection[str] = tuple(FROM_T1W), progress: Progress = unseen
) -> SliceSet:
    """All healthy slices (N, 96, 96) of the given cases; scans that are not cached are prepared.

    Each T1w volume is converted once, deterministically, to each of the `kinds` that can be made from it.
    """
    slices, contrasts, config = [], [], scans.config
    turned: dict[str, list[NDArray[np.uint8]]] = {kind: [] for kind in FROM_T1W if kind in kinds}
    for number, case in enumerate(chosen):
        progress(number, len(chosen))
        prepared = scans.prepared(case.scan)
        keep, kind = scans.healthy_slices(case), case.contrast or prepared.contrast().contrast
        slices.append(_bytes(prepared.scaled(config))[keep])
        contrasts.append(np.full(len(keep), CONTRASTS.index(kind)))
        for other, parts in turned.items():
            is_t1w = kind == T1W.name
            parts.append(_turned(prepared, other, config, number)[keep] if is_t1w else np.zeros_like(slices[-1]))
    known = {kind: torch.from_numpy(np.concatenate(parts)) for kind, parts in turned.items()}
    return SliceSet(torch.from_numpy(np.concatenate(slices)), torch.from_numpy(np.concatenate(contrasts)), turned=known)


def _turned(prepared: Prepared, kind: str, config: PreprocessConfig, number: int) -> NDArray[np.uint8]:
    """The slices of a T1w scan converted to another contrast, and scaled; `number` is the seed."""
    x, mask = prepared.linear(config), prepared.mask
    rng = np.random.default_rng([SEED, number, CONTRASTS.index(kind)])
    made = volume_from_t1(x, mask, of_scan(x, mask, T1W.name), kind, rng)
    return _bytes(intensity.scale(made, mask, config))


def _bytes(x: Array) -> NDArray[np.uint8]:
    """A scaled volume as slices (Z, H, W) of bytes."""
    return np.round(to_slices(x) * 255).astype(np.uint8)
