"""The learned score: a Siamese network on scan and residual, trained on synthetic lesions in healthy scans.

After SADM (Behrendt et al., MIDL 2024; method 5): both inputs share one encoder; their features are concatenated at
every scale and decoded to one logit. Unlike there, each input is three neighbouring slices, the same slices mirrored
left to right (`SiameseConfig.mirror`), which shows differences between the hemispheres, and their place in the
template. With `SiameseConfig.headroom` the scan continues above 1, where the reconstruction sees it clipped.

The network finds a lesion and blurs its border. The guided filter (He, Sun and Tang 2013) moves it to the edges of the
scan: around every voxel it fits the probability as a linear function of the scan, and takes the mean of the fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from uadcli.arrays import Array
from uadcli.config import SiameseConfig
from uadcli.layers.group_norm import GroupNorm

UNSHUFFLE = 2
NEIGHBOURS = (-1, 0, 1)
ALONG = 2.0  # slices of 2 mm; packaging/docs/decisions.md compares others
CERTAIN = 1e-6  # probabilities are clipped here before the logit
LIMIT = 4.0  # robust standard deviations beyond which the scan has no edges for it: in fluid and vessels
EPSILON = 0.1  # the variance of the scan, in robust standard deviations squared, below which it is flat for it


class Block(nn.Module):
    """Two 3x3 convolutions, each with group norm and SiLU, and a skip connection."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm1, self.norm2 = GroupNorm(8, outputs), GroupNorm(8, outputs)
        self.around = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        h = F.silu(self.norm1(self.conv1(x)))
        return self.around(x) + F.silu(self.norm2(self.conv2(h)))


class SiameseUNet(nn.Module):
    """Logits of abnormality from a scan and its residual; sizes by `SiameseConfig`."""

    def __init__(self, config: SiameseConfig) -> None:
        super().__init__()
        self.config = config
        sizes = config.channels
        views = 2 if config.mirror else 1
        first = views * len(NEIGHBOURS) * UNSHUFFLE**2 + 3  # three coordinates
        self.down = nn.ModuleList([Block(i, o) for i, o in zip((first, *sizes[:-1]), sizes, strict=True)])
        self.up = nn.ModuleList()
        channels = 2 * sizes[-1]
        for size in reversed(sizes[:-1]):
            self.up.append(Block(channels + 2 * size, 2 * size))
            channels = 2 * size
        self.out = nn.Conv2d(channels, UNSHUFFLE**2, 1)

    def forward(self, image: Tensor, residual: Tensor, place: Tensor) -> Tensor:
        """`image` in [0, 2] and `residual` in [-1, 2] (B, 3, H, W), `place` (B, 3, H/2, W/2) -> logits (B, 1, H, W)."""
        batch = len(image)
        both = torch.cat([2 * image - 1, 4 * residual])
        if self.config.mirror:
            both = torch.cat([both, both.flip(3)], dim=1)
        h = torch.cat([F.pixel_unshuffle(both, UNSHUFFLE), place.repeat(2, 1, 1, 1)], dim=1)
        skips = []
        for depth, block in enumerate(self.down):
            h = block(F.avg_pool2d(h, 2) if depth else h)
            skips.append(torch.cat([h[:batch], h[batch:]], dim=1))
        h = skips.pop()
        for block in self.up:
            h = block(torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), skips.pop()], dim=1))
        return F.pixel_shuffle(self.out(h), UNSHUFFLE)


def places(indices: NDArray[np.int64], shape: tuple[int, int, int]) -> Array:
    """Template coordinates (N, 3, H/2, W/2) of the slices `indices` of a stack (Z, H, W), from -1 to 1; x is |x|.

    Left and right have the same coordinates, so flipping the scan flips the map.
    """
    depth, height, width = shape
    y, x = np.meshgrid(
        np.linspace(-1, 1, height // UNSHUFFLE), np.abs(np.linspace(-1, 1, width // UNSHUFFLE)), indexing="ij"
    )
    result = np.empty((len(indices), 3, *y.shape), dtype=np.float32)
    result[:, 0], result[:, 1] = x, y
    result[:, 2] = (2 * indices / (depth - 1) - 1)[:, None, None]
    return result


def with_neighbours(stack: NDArray[Any], indices: NDArray[np.int64]) -> Array:
    """Slices `indices` of a stack (Z, H, W) with the slices below and above each, (N, 3, H, W); the ends repeat."""
    around = np.clip(indices[:, None] + np.array(NEIGHBOURS), 0, len(stack) - 1)
    return np.asarray(stack[around], dtype=np.float32)


@dataclass(frozen=True)
class Runs:
    """How the network runs: on which device, with how many slices at a time, and whether in bfloat16."""

    device: str = "cpu"
    batch: int = 32
    bf16: bool = False


ON_CPU = Runs()


@torch.inference_mode()
def siamese_score(
    network: SiameseUNet, slices: Array, recon: Array, indices: NDArray[np.int64], runs: Runs = ON_CPU
) -> Array:
    """Probability of abnormality (Z, H, W) of slices and their pseudo-healthy versions, all (Z, H, W) in [0, 1].

    With their headroom (`SiameseConfig.headroom`) the slices are in [0, 2].

    The mean over the scan and its left-right mirror image; slices not in `indices` are 0.
    """
    where = torch.device(runs.device)
    network = network.eval().to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    result = np.zeros(slices.shape, dtype=np.float32)
    residual = slices - recon
    for start in range(0, len(indices), runs.batch):
        part = indices[start : start + runs.batch]
        arrays = with_neighbours(slices, part), with_neighbours(residual, part), places(part, slices.shape)  # type: ignore[arg-type]
        image, difference, place = (torch.from_numpy(a).to(where, memory_format=torch.channels_last) for a in arrays)
        with torch.autocast(where.type, torch.bfloat16, enabled=runs.bf16):
            straight = network(image, difference, place).float().sigmoid()
            mirrored = network(image.flip(3), difference.flip(3), place).float().sigmoid().flip(3)
        result[part] = ((straight + mirrored) / 2).cpu().numpy()[:, 0]
    return result


def smooth_along_slices(probability: Array, mask: NDArray[np.bool_], sigma: float = ALONG) -> Array:
    """Probabilities (X, Y, Z) whose logits inside the mask are smoothed across axial slices; 0 outside.

    The network judges three slices at a time, but a lesion seldom begins and ends within them. `sigma` is in slices; 0
    leaves the probabilities unchanged.
    """
    if sigma <= 0:
        return probability
    from scipy import ndimage

    p = np.clip(probability, CERTAIN, 1 - CERTAIN)
    logit = np.where(mask, np.log(p / (1 - p)), 0).astype(np.float32)
    inside = ndimage.gaussian_filter1d(mask.astype(np.float32), sigma, axis=2, mode="constant")
    total = ndimage.gaussian_filter1d(logit, sigma, axis=2, mode="constant")
    mean = total / np.maximum(inside, 1e-3)
    return np.where(mask, 1 / (1 + np.exp(-mean)), 0).astype(np.float32)


def guided_filter(probability: Array, z: Array, mask: NDArray[np.bool_], radius: int) -> Array:
    """Probabilities (X, Y, Z) that follow the edges of a scan, given as robust z (X, Y, Z); 0 outside the mask.

    The fits are to the voxels of the mask in cubes of 2 `radius` + 1 voxels; radius 0 leaves them unchanged.
    """
    if radius <= 0:
        return probability
    from scipy import ndimage

    guide = np.where(mask, np.clip(z, -LIMIT, LIMIT), 0).astype(np.float64)
    size = 2 * radius + 1
    inside = np.maximum(ndimage.uniform_filter(mask.astype(np.float64), size, mode="constant"), size**-3.0)

    def mean(volume: NDArray[np.float64]) -> NDArray[np.float64]:
        around = ndimage.uniform_filter(np.where(mask, volume, 0), size, mode="constant")
        return np.asarray(around / inside)

    mean_probability, mean_guide = mean(probability.astype(np.float64)), mean(guide)
    covariance = mean(probability * guide) - mean_probability * mean_guide
    slope = covariance / (mean(guide**2) - mean_guide**2 + EPSILON)
    filtered = mean(slope) * guide + mean(mean_probability - slope * mean_guide)
    return np.where(mask, np.clip(filtered, 0, 1), 0).astype(np.float32)
