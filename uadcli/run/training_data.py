"""Healthy slices to train on, from prepared scans: real T1w and FLAIR, and T2w made from T1w."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uadcli.arrays import Array
from uadcli.config import PreprocessConfig
from uadcli.errors import UsageError
from uadcli.imaging.slices import to_slices
from uadcli.run.dataset import Case
from uadcli.run.healthy import healthy_slices
from uadcli.run.prepare import prepare_cached

REAL_OTHER = 0.35  # share of a batch for each real contrast beside T1w, however few its slices are
CODES = ("T1w", "FLAIR", "T2w")
MADE_T2, MADE_FLAIR = 0.3, 0.2  # shares of the T1w slices that are turned into another contrast


@dataclass(frozen=True)
class SliceSet:
    """Slices (N, 96, 96) as uint8 (0..255 for 0..1) and their contrasts (N,) as indices of `CODES`.

    `made` are the shares of the T1w slices of a batch that are turned into T2w and into FLAIR.
    """

    slices: Tensor
    contrast: Tensor
    made: tuple[float, float] = (MADE_T2, MADE_FLAIR)

    def to(self, device: torch.device) -> SliceSet:
        """The same on a device: all slices, one byte a pixel."""
        return SliceSet(self.slices.to(device), self.contrast.to(device), self.made)

    def only(self, contrasts: Collection[str]) -> SliceSet:
        """What a network for some of the contrasts trains on: without T1w among them, all T1w slices are turned.

        Raises `UsageError` for a contrast that these slices cannot give.
        """
        made = [share * (kind in contrasts) for kind, share in zip(("T2w", "FLAIR"), self.made, strict=True)]
        if "T1w" not in contrasts:
            made = [share / (sum(made) or 1) for share in made]
        wanted = [CODES.index(one) for one in contrasts]
        if sum(made):
            wanted.append(0)
        keep = torch.isin(self.contrast, torch.tensor(wanted))
        have = {CODES[code] for code in self.contrast[keep].unique().tolist()}
        if "T1w" in have:
            have |= {kind for kind, share in zip(("T2w", "FLAIR"), made, strict=True) if share}
        if missing := set(contrasts) - have:
            raise UsageError(f"there are no slices for {', '.join(sorted(missing))}")
        return SliceSet(self.slices[keep], self.contrast[keep], (made[0], made[1]))

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
        """Slices (B, 1, 96, 96) in [0, 1]; parts of the T1w ones are turned into T2w and FLAIR."""
        x = self.at(index)
        pick = torch.rand(len(index), generator=generator)
        real_t1 = self.contrast[index] == 0
        as_t2, as_flair = self.made
        for kind, low, high in (("T2w", 0.0, as_t2), ("FLAIR", as_t2, as_t2 + as_flair)):
            chosen = real_t1 & (pick >= low) & (pick < high)
            if chosen.any():
                x[chosen] = from_t1(x[chosen], kind, generator)
        return x


def from_t1(x: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """T2w- or FLAIR-like slices from T1w ones by a random curve of intensity, (B, 1, H, W) in [0, 1].

    T1w intensity stands for tissue: dark is CSF, then grey, then white matter. Their new intensities are drawn in
    physical order (T2w: CSF > GM > WM; FLAIR: GM > WM > CSF), straight lines between; 0 outside the brain stays 0.
    """
    batch = len(x)
    draw = torch.rand(batch, 6, generator=generator)
    at = torch.stack([0.08 + 0.12 * draw[:, 0], 0.42 + 0.16 * draw[:, 1], 0.72 + 0.16 * draw[:, 2]], 1)
    if kind == "T2w":
        csf, grey = 0.85 + 0.15 * draw[:, 3], 0.38 + 0.2 * draw[:, 4]
        white = grey - (0.08 + 0.14 * draw[:, 5])
    else:
        csf, grey = 0.05 + 0.25 * draw[:, 3], 0.5 + 0.25 * draw[:, 4]
        white = grey - (0.02 + 0.16 * draw[:, 5])
    y = torch.stack([csf, grey, white], 1).view(batch, 3, 1, 1, 1)
    at = at.view(batch, 3, 1, 1, 1)
    lower = y[:, 0] + (x - at[:, 0]) / (at[:, 1] - at[:, 0]) * (y[:, 1] - y[:, 0])
    upper = y[:, 1] + (x - at[:, 1]) / (at[:, 2] - at[:, 1]) * (y[:, 2] - y[:, 1])
    low, high = torch.minimum(y[:, 0], y[:, 1]), torch.maximum(y[:, 0], y[:, 1])
    value = torch.where(x < at[:, 1], lower.clamp(low, high), torch.maximum(upper, y[:, 2] - 0.1))
    return torch.where(x > 0, value, torch.zeros_like(x)).clamp(0, 1)


def volume_from_t1(data: Array, kind: str, rng: np.random.Generator) -> Array:
    """A T1w volume (X, Y, Z) in [0, 1] with the intensities of another contrast, see `from_t1`."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    flat = torch.from_numpy(data.reshape(1, 1, len(data), -1))
    made: Array = from_t1(flat, kind, generator).numpy().reshape(data.shape)
    return made


def load_slices(chosen: list[Case], cache: Path, config: PreprocessConfig) -> SliceSet:
    """All healthy slices of the given cases, preparing what is not in the cache yet."""
    slices, contrasts = [], []
    for case in chosen:
        prepared = prepare_cached(case.scan, config, cache)
        keep = healthy_slices(case, prepared)
        image = np.round(to_slices(prepared.scaled(config)) * 255).astype(np.uint8)[keep]
        slices.append(image)
        contrasts.append(np.full(len(image), CODES.index(case.contrast or prepared.contrast().contrast)))
    return SliceSet(torch.from_numpy(np.concatenate(slices)), torch.from_numpy(np.concatenate(contrasts)))
