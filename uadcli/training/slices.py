"""Healthy slices to train on, from prepared scans: real ones, and other contrasts made from T1w."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uadcli.config import CONTRASTS, PreprocessConfig
from uadcli.contrasts import FROM_T1W, T1W
from uadcli.data.dataset import Case
from uadcli.data.healthy import healthy_slices
from uadcli.data.prepare import prepare_cached
from uadcli.errors import UsageError
from uadcli.imaging.slices import to_slices
from uadcli.synthesis.contrast import from_t1

REAL_OTHER = 0.35  # share of a batch for each real contrast beside T1w, however few its slices are


@dataclass(frozen=True)
class SliceSet:
    """Slices (N, 96, 96) as uint8 (0..255 for 0..1) and their contrasts (N,) as indices of `CONTRASTS`.

    `made` are the shares of the T1w slices of a batch that are turned into each contrast of `FROM_T1W`.
    """

    slices: Tensor
    contrast: Tensor
    made: tuple[float, ...] = tuple(one.slices for one in FROM_T1W.values())

    def to(self, device: torch.device) -> SliceSet:
        """The same on a device: all slices, one byte a pixel."""
        return SliceSet(self.slices.to(device), self.contrast.to(device), self.made)

    def only(self, contrasts: Collection[str]) -> SliceSet:
        """What a network for some of the contrasts trains on: without T1w among them, all T1w slices are turned.

        Raises `UsageError` for a contrast that these slices cannot give.
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
        return SliceSet(self.slices[keep], self.contrast[keep], tuple(made))

    def at(self, index: Tensor) -> Tensor:
        """Slices (B, 1, 96, 96) in [0, 1], as they are."""
        return self.slices[index].float().div(255)[:, None]

    def spread(self, count: int) -> Tensor:
        """The same `count` indices each time, evenly over all slices."""
        return torch.linspace(0, len(self.slices) - 1, count, device=self.slices.device).long()

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices of a random batch, in which each real contrast beside the first has the share `REAL_OTHER`."""
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
        """Slices (B, 1, 96, 96) in [0, 1]; parts of the T1w ones are turned into other contrasts."""
        x = self.at(index)
        pick = torch.rand(len(index), generator=generator)
        real_t1 = self.contrast[index] == CONTRASTS.index(T1W.name)
        low = 0.0
        for kind, share in zip(FROM_T1W, self.made, strict=True):
            chosen = real_t1 & (pick >= low) & (pick < low + share)
            if chosen.any():
                x[chosen] = from_t1(x[chosen], kind, generator)
            low += share
        return x


def load_slices(chosen: list[Case], cache: Path, config: PreprocessConfig) -> SliceSet:
    """All healthy slices of the given cases, preparing what is not in the cache yet."""
    slices, contrasts = [], []
    for case in chosen:
        prepared = prepare_cached(case.scan, config, cache)
        keep = healthy_slices(case, prepared)
        image = np.round(to_slices(prepared.scaled(config)) * 255).astype(np.uint8)[keep]
        slices.append(image)
        contrasts.append(np.full(len(image), CONTRASTS.index(case.contrast or prepared.contrast().contrast)))
    return SliceSet(torch.from_numpy(np.concatenate(slices)), torch.from_numpy(np.concatenate(contrasts)))
