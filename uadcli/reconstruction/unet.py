"""The denoising network: the UNet of guided diffusion (Dhariwal and Nichol 2021) with adaptive group norm."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uadcli.config import UNetConfig
from uadcli.layers.group_norm import GroupNorm


def group_norm(channels: int) -> GroupNorm:
    """GroupNorm of 32 groups, or of the largest number below that divides the channels."""
    return GroupNorm(max(g for g in range(1, 33) if channels % g == 0), channels)


def time_embedding(t: Tensor, size: int) -> Tensor:
    """Sinusoidal embedding of the step index, (B,) -> (B, size): cosines, then sines, longest period 10000."""
    frequency = torch.exp(-math.log(10000) * torch.arange(size // 2, device=t.device) / (size // 2))
    angle = t[:, None].float() * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class ResidualBlock(nn.Module):
    """GN, SiLU, conv, GN scaled and shifted by the embedding, SiLU, zero-initialised conv, and a skip connection.

    `resize` is `up` (nearest, x2), `down` (mean of 2x2) or None, applied to both branches.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, resize: str | None = None) -> None:
        super().__init__()
        self.resize = resize
        self.norm1, self.norm2 = group_norm(inputs), group_norm(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.around = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def _resized(self, x: Tensor) -> Tensor:
        if self.resize == "up":
            return F.interpolate(x, scale_factor=2.0, mode="nearest")
        return F.avg_pool2d(x, 2) if self.resize == "down" else x

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """x (B, C, H, W) and the activated embedding (B, E) -> (B, C', H', W')."""
        h = self.conv1(self._resized(F.silu(self.norm1(x))))
        scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)
        return self.around(self._resized(x)) + self.conv2(F.silu(h))


class Attention(nn.Module):
    """Self-attention over all positions, heads of `head_channels`, with a zero-initialised output."""

    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.heads = max(channels // head_channels, 1)
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).transpose(3, 4)
        mixed = F.scaled_dot_product_attention(qkv[:, 0], qkv[:, 1], qkv[:, 2])
        return x + self.out(mixed.transpose(2, 3).reshape(b, c, h, w))


class UNet(nn.Module):
    """Predicts x0 from x_t, t and the condition vector; sizes by `UNetConfig`, unconditional if `condition` is 0."""

    def __init__(self, config: UNetConfig, condition: int) -> None:
        super().__init__()
        self.config, self.condition = config, condition
        base, width, factor = config.channels, config.embedding, config.unshuffle
        self.time = nn.Sequential(nn.Linear(base, width), nn.SiLU(), nn.Linear(width, width))
        if condition:
            self.context = nn.Sequential(nn.Linear(condition, width), nn.SiLU(), nn.Linear(width, width))
        total = 2 * width if condition else width
        levels = [base * m for m in config.multipliers]
        self.stem = nn.Conv2d(factor**2, base, 3, padding=1)
        self.down, skips = nn.ModuleList(), [base]
        channels = base
        for depth, size in enumerate(levels):
            for _ in range(config.blocks):
                self.down.append(ResidualBlock(channels, size, total))
                channels = size
                skips.append(channels)
            if depth < len(levels) - 1:
                self.down.append(ResidualBlock(channels, channels, total, "down"))
                skips.append(channels)
        self.middle = nn.ModuleList(
            [
                ResidualBlock(channels, channels, total),
                Attention(channels, config.head_channels),
                ResidualBlock(channels, channels, total),
            ]
        )
        self.up = nn.ModuleList()
        self.joins: list[bool] = []  # whether a block takes a skip connection
        for depth, size in reversed(list(enumerate(levels))):
            for _ in range(config.blocks + 1):
                self.up.append(ResidualBlock(channels + skips.pop(), size, total))
                channels = size
                self.joins.append(True)
            if depth > 0:
                self.up.append(ResidualBlock(channels, channels, total, "up"))
                self.joins.append(False)
        self.norm = group_norm(channels)
        self.out = nn.Conv2d(channels, factor**2, 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """x_t (B, 1, H, W) in about [-1, 1], step index t (B,), condition (B, d) -> x0_hat (B, 1, H, W)."""
        embedding = self._embedding(x, t, condition)
        skips = self._down_path(x, embedding)
        h = skips[-1]
        for block in self.middle:
            h = block(h, embedding)
        for block, join in zip(self.up, self.joins, strict=True):
            h = block(torch.cat([h, skips.pop()], dim=1) if join else h, embedding)
        return F.pixel_shuffle(self.out(F.silu(self.norm(h))), self.config.unshuffle)

    def features(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """The last output (B, C, h, w) of each level of the down path, finest first; arguments as for `forward`."""
        outputs = self._down_path(x, self._embedding(x, t, condition))
        last = [i for i, block in enumerate(self.down) if block.resize == "down"]  # `outputs` has the stem's first
        return [outputs[i] for i in (*last, -1)]

    def _embedding(self, x: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """The activated embedding (B, E) of step and condition."""
        embedding = self.time(time_embedding(t, self.config.channels).to(x.dtype))
        if condition is not None:
            embedding = torch.cat([embedding, self.context(condition)], dim=1)
        return F.silu(embedding)

    def _down_path(self, x: Tensor, embedding: Tensor) -> list[Tensor]:
        """The outputs (B, C, h, w) of the stem and of every block of the down path."""
        outputs = [self.stem(F.pixel_unshuffle(x, self.config.unshuffle))]
        for block in self.down:
            outputs.append(block(outputs[-1], embedding))
        return outputs
