"""Augmentation of batches of slices, and synthetic anomalies that the network learns to remove.

Training on corrupted input with a clean target is the idea of synthetic-anomaly noise (Synomaly, arXiv 2411.04004);
shapes, textures and signs vary as in DISYRE. Nothing here is fitted to real lesions.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from uadcli.reconstruction.noise import NoiseBank


def _uniform(low: float, high: float, batch: int, generator: torch.Generator) -> Tensor:
    return (low + (high - low) * torch.rand(batch, generator=generator)).view(-1, 1, 1, 1)


def smooth_field(batch: int, shape: tuple[int, int], generator: torch.Generator, cells: int = 4) -> Tensor:
    """Smooth random fields (B, 1, H, W), about N(0, 1): a coarse grid of normal values, upsampled bicubically."""
    coarse = torch.randn(batch, 1, cells, cells, generator=generator)
    return F.interpolate(coarse, size=shape, mode="bicubic", align_corners=True)


def augment(x: Tensor, generator: torch.Generator, blurred: float = 0.0, ghosted: float = 0.0) -> Tensor:
    """Left-right flip, small affine, gamma, bias field, scale and noise on slices (B, 1, H, W) in [0, 1].

    `blurred` and `ghosted` are the shares of slices that are blurred and get ghosts.
    """
    batch, _, height, width = x.shape
    flip = torch.where(torch.rand(batch, generator=generator) < 0.5, -1.0, 1.0)
    angle = (torch.rand(batch, generator=generator) - 0.5) * 0.25
    zoom = 1 + (torch.rand(batch, 2, generator=generator) - 0.5) * 0.2
    shift = (torch.rand(batch, 2, generator=generator) - 0.5) * 0.06
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0], theta[:, 0, 1] = flip * zoom[:, 0] * angle.cos(), -zoom[:, 0] * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = flip * zoom[:, 1] * angle.sin(), zoom[:, 1] * angle.cos()
    theta[:, :, 2] = shift
    x = F.grid_sample(x, F.affine_grid(theta, [batch, 1, height, width], align_corners=False), align_corners=False)
    inside = (x > 0.02).float()
    x = x.clamp(1e-4, 1) ** _uniform(-0.3, 0.3, batch, generator).exp()
    x = x * (0.08 * smooth_field(batch, (height, width), generator)).exp() * _uniform(0.92, 1.05, batch, generator)
    x = x + 0.02 * torch.rand(batch, 1, 1, 1, generator=generator) * torch.randn(x.shape, generator=generator)
    x = _some(x, blur(x, generator), blurred, generator)
    x = _some(x, ghost(x, generator), ghosted, generator)
    return (x * inside).clamp(0, 1)


def augment_as_published(x: Tensor, generator: torch.Generator) -> Tensor:
    """Gamma (half the slices), bias field (a quarter), blur (a quarter) and ghosting (half) (method 1.2, step 11).

    x is (B, 1, H, W) in [0, 1], and so is the result; what is about 0 stays 0.
    """
    batch, _, height, width = x.shape
    inside = (x > 0.02).float()
    x = _some(x, x.clamp(1e-4, 1) ** _uniform(-0.3, 0.3, batch, generator).exp(), 0.5, generator)
    x = _some(x, x * (0.25 * smooth_field(batch, (height, width), generator)).exp(), 0.25, generator)
    x = _some(x, blur(x, generator), 0.25, generator)
    x = _some(x, ghost(x, generator), 0.5, generator)
    return (x * inside).clamp(0, 1)


def _some(x: Tensor, changed: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """`changed` for a random share of the slices, x for the others."""
    chosen = torch.rand(len(x), 1, 1, 1, generator=generator) < share
    return torch.where(chosen, changed, x)


def blur(x: Tensor, generator: torch.Generator, largest: float = 1.0) -> Tensor:
    """Slices (B, 1, H, W), each blurred with a Gaussian of its own width, up to `largest` pixels of 2 mm."""
    batch, reach = len(x), math.ceil(3 * largest)
    sigma = _uniform(0.05, largest, batch, generator)
    offset = torch.arange(-reach, reach + 1, device=x.device).float().view(1, 1, 1, -1)
    kernel = torch.exp(-((offset / sigma) ** 2) / 2)
    kernel = kernel / kernel.sum(dim=3, keepdim=True)
    h = x.transpose(0, 1)  # slices as channels, so that each has its own kernel
    h = F.conv2d(h, kernel, padding=(0, reach), groups=batch)
    return F.conv2d(h, kernel.transpose(2, 3), padding=(reach, 0), groups=batch).transpose(0, 1)


def ghost(x: Tensor, generator: torch.Generator) -> Tensor:
    """Slices (B, 1, H, W) with faint copies of themselves along one axis, as from a head that moves periodically.

    Every n-th line of k-space, n from 4 to 10, is attenuated by 50 to 100 %, except the centre, which holds the mean
    intensity.
    """
    batch, _, height, width = x.shape
    every = torch.randint(4, 11, (batch, 1, 1, 1), generator=generator)
    weaken = _uniform(0.5, 1.0, batch, generator)
    along_rows = torch.rand(batch, 1, 1, 1, generator=generator) < 0.5
    rows = torch.fft.fftfreq(height, 1 / height, device=x.device).round().view(1, 1, -1, 1)
    columns = torch.fft.fftfreq(width, 1 / width, device=x.device).round().view(1, 1, 1, -1)
    line = torch.where(along_rows, rows, columns)
    hit = (line.remainder(every) == 0) & (line.abs() > 1)
    return torch.fft.ifft2(torch.fft.fft2(x) * (1 - weaken * hit)).real.clamp(0, 1)


def synthetic_lesions(x: Tensor, bank: NoiseBank, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Paste a soft-edged anomaly into each slice (B, 1, H, W); returns the slices and the anomalies' weights in [0, 1].

    A rotated ellipse whose longer half-axis is 2 to 26 pixels, the other 40 to 100 % of that, with an edge distorted by
    noise and its centre inside the brain; brighter or darker than the tissue it covers, or of a constant intensity,
    plain or textured.
    """
    batch, _, height, width = x.shape
    brain = (x > 0.05).float()
    chance = brain.flatten(1) + 1e-6
    middle = torch.multinomial(chance, 1, generator=generator).squeeze(1)
    row, column = (middle // width).view(-1, 1, 1, 1), (middle % width).view(-1, 1, 1, 1)
    y = torch.arange(height).view(1, 1, -1, 1) - row
    z = torch.arange(width).view(1, 1, 1, -1) - column
    angle = _uniform(0, math.pi, batch, generator)
    a = torch.exp(_uniform(math.log(2), math.log(26), batch, generator))
    b = a * _uniform(0.4, 1.0, batch, generator)
    along, across = (y * angle.cos() + z * angle.sin()) / a, (z * angle.cos() - y * angle.sin()) / b
    distance = (along**2 + across**2).sqrt()
    edge = bank.draw(batch, (height, width), generator)
    sharp = torch.exp(_uniform(math.log(2), math.log(12), batch, generator))
    weight = torch.sigmoid((1 - distance + _uniform(0.1, 0.7, batch, generator) * edge) * sharp * 2)
    weight = weight * (distance < 2) * brain
    texture = bank.draw(batch, (height, width), generator) * _uniform(0.0, 0.15, batch, generator)
    sign = torch.where(torch.rand(batch, 1, 1, 1, generator=generator) < 0.5, -1.0, 1.0)
    shifted = x + sign * _uniform(0.12, 0.6, batch, generator)
    own = _uniform(0.0, 1.0, batch, generator)
    kind = torch.rand(batch, 1, 1, 1, generator=generator) < 0.6
    inside = (torch.where(kind, shifted, own) + texture).clamp(0, 1)
    return x + weight * (inside - x), weight
