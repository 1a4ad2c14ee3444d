"""Masked pretraining of the encoder, in the manner of SparK (Tian et al., ICLR 2023; method 2.3).

The encoder sees some patches of a slice, and a light decoder reconstructs the others. Hidden patches are masked in
every layer: outputs of convolutions and pooling are set to 0 there, and norms use visible positions only.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadcli.config import EncoderConfig
from uadcli.reconstruction.encoder import Bottleneck, Encoder
from uadcli.reconstruction.unet import group_norm


class MaskedAutoencoder(nn.Module):
    """The body of an encoder, and a decoder that is discarded after pretraining.

    `patch` is the side of a patch in pixels, which is also the encoder's downsampling factor: 32 for four stages.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        encoder = Encoder(config)
        self.factor, self.body = encoder.factor, encoder.body
        scales = [4 * config.width * 2**i for i in range(len(config.blocks))]  # channels, from fine to coarse
        self.patch = 4 * 2 ** (len(scales) - 1)
        widths = [max(width // 4, 8) for width in scales]
        self.tokens = nn.ParameterList([nn.Parameter(torch.zeros(1, c, 1, 1)) for c in scales])
        sizes = [1 if i == len(scales) - 1 else 3 for i in range(len(scales))]
        self.lateral = nn.ModuleList(
            [nn.Conv2d(c, w, k, padding=k // 2) for c, w, k in zip(scales, widths, sizes, strict=True)]
        )
        outputs = [*reversed(widths[:-1]), max(widths[0] // 2, 8), max(widths[0] // 4, 8)]
        inputs = [widths[-1], *outputs[:-1]]
        self.up = nn.ModuleList([_Up(i, o) for i, o in zip(inputs, outputs, strict=True)])
        self.out = nn.Conv2d(outputs[-1], 1, 1)

    def pyramid(self, x: Tensor, visible: Tensor) -> list[Tensor]:
        """Features of each stage, fine to coarse, of slices (B, 1, H, W) with visible patches (B, 1, H/p, W/p)."""
        h = F.pixel_unshuffle(x * _enlarged(visible, x), self.factor)
        features: list[Tensor] = []
        blocks = list(self.body)
        for i, block in enumerate(blocks):
            h = _sparse(block, h, visible)
            after = blocks[i + 1] if i + 1 < len(blocks) else None
            if isinstance(block, Bottleneck) and (after is None or _strided(after)):
                features.append(h)
        return features

    def forward(self, x: Tensor, visible: Tensor) -> Tensor:
        """Reconstruct slices (B, 1, H, W) in [0, 1] from their visible patches, (B, 1, H/p, W/p) of 1 and 0."""
        parts = []
        for feature, token, lateral in zip(self.pyramid(x, visible), self.tokens, self.lateral, strict=True):
            shown = _enlarged(visible, feature)
            parts.append(lateral(feature * shown + token * (1 - shown)))
        h = parts.pop()
        for up in self.up:
            h = up(h)
            if parts:
                h = h + parts.pop()
        return self.out(h)


class _Up(nn.Module):
    """Twice the resolution: a transposed convolution, then two convolutions with group norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ConvTranspose2d(inputs, inputs, 4, 2, 1),
            nn.Conv2d(inputs, inputs, 3, padding=1, bias=False),
            group_norm(inputs),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            group_norm(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', 2 H, 2 W)."""
        return self.body(x)


def draw_visible(batch: int, side: int, ratio: float, generator: torch.Generator) -> Tensor:
    """Visible patches (B, 1, side, side) of 1 and 0; in every slice a share `ratio` (rounded) is hidden.

    At least one patch is hidden, without which there is no loss, and one visible.
    """
    count = max(1, min(side * side - 1, round(side * side * (1 - ratio))))
    order = torch.rand(batch, side * side, generator=generator, device=generator.device).argsort(1).argsort(1)
    return (order < count).float().view(batch, 1, side, side)


def masked_loss(reconstructed: Tensor, x: Tensor, visible: Tensor) -> Tensor:
    """The mean squared error of slices (B, 1, H, W) over the pixels of hidden patches."""
    hidden = 1 - _enlarged(visible, x)
    return ((reconstructed - x).square() * hidden).sum() / hidden.sum()


def _enlarged(visible: Tensor, like: Tensor) -> Tensor:
    """The mask at the resolution of a feature map."""
    return F.interpolate(visible, size=like.shape[2:], mode="nearest")


def _strided(module: nn.Module) -> bool:
    """Whether a block is a strided bottleneck, the first of the next stage."""
    return isinstance(module, Bottleneck) and any(isinstance(m, nn.Conv2d) and m.stride != (1, 1) for m in module.body)


def _sparse(module: nn.Module, x: Tensor, visible: Tensor) -> Tensor:
    """A layer of the encoder at visible positions; input and output are 0 elsewhere."""
    if isinstance(module, Bottleneck):
        return F.relu(_sparse(module.body, x, visible) + _sparse(module.around, x, visible))
    if isinstance(module, nn.Sequential):
        for inner in module:
            x = _sparse(inner, x, visible)
        return x
    if isinstance(module, nn.GroupNorm | nn.BatchNorm2d):
        shown = _enlarged(visible, x)
        normed = _batch_norm(module, x, shown) if isinstance(module, nn.BatchNorm2d) else _group_norm(module, x, shown)
        return normed * shown
    h: Tensor = module(x)
    return h * _enlarged(visible, h)


def _group_norm(norm: nn.GroupNorm, x: Tensor, shown: Tensor) -> Tensor:
    batch, channels, height, width = x.shape
    grouped = x.view(batch, norm.num_groups, -1, height, width)
    count = shown.sum(dim=(2, 3)).view(batch, 1, 1, 1, 1) * grouped.shape[2]
    mean = grouped.sum(dim=(2, 3, 4), keepdim=True) / count
    centred = (grouped - mean) * shown[:, None]
    variance = centred.square().sum(dim=(2, 3, 4), keepdim=True) / count
    h = (centred / (variance + norm.eps).sqrt()).view(batch, channels, height, width)
    return h * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def _batch_norm(norm: nn.BatchNorm2d, x: Tensor, shown: Tensor) -> Tensor:
    """Batch norm with statistics of visible positions, or with the running ones outside training."""
    if norm.training:
        count = shown.sum()
        mean = x.sum(dim=(0, 2, 3)) / count
        variance = ((x - mean.view(1, -1, 1, 1)) * shown).square().sum(dim=(0, 2, 3)) / count
        if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
            with torch.no_grad():
                share = norm.momentum if norm.momentum is not None else 0.1
                norm.running_mean.lerp_(mean, share)
                norm.running_var.lerp_(variance * count / (count - 1).clamp(min=1), share)
                norm.num_batches_tracked.add_(1)
    else:
        if norm.running_mean is None or norm.running_var is None:
            raise ValueError("the norm keeps no statistics")
        mean, variance = norm.running_mean, norm.running_var
    scale = norm.weight / (variance + norm.eps).sqrt()
    return (x - mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)


def patches(size: int, patch: int) -> int:
    """The number of patches of side `patch` along a slice of side `size`. Raises `ValueError` if they do not fit."""
    if size % patch:
        raise ValueError(f"patches of {patch} do not fill {size} pixels")
    return math.floor(size / patch)
