"""The published inference, written plainly from the paper and its description: the baseline of `make bench-reference`.

Behrendt et al. (arXiv 2312.04215): a guided-diffusion UNet with the vector of a ResNet-50 as condition, in float32. One
batch of all slices for each level, with one noise map that all slices share; the encoder runs at every level. The
residual is eroded slice by slice in 2-D, and then filtered by a median of 5 x 5 x 5. Parameters have the names of our
network, so that both can have the same weights; nothing else is shared but the generator of the noise.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

from uadcli.config import EncoderConfig, ModelConfig, UNetConfig
from uadcli.reconstruction.noise import simplex_noise

Array = NDArray[np.float32]
Noise = Callable[[int, int], Array]  # of a level and a number of slices: (N or 1, 1, H, W)
EROSION, MEDIAN = 3, 5


def norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(max(g for g in range(1, 33) if channels % g == 0), channels)


class Block(nn.Module):
    """A residual block whose second norm is scaled and shifted by the embedding; it can halve or double the size."""

    def __init__(self, inputs: int, outputs: int, embedding: int, resize: str = "") -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = norm(outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * outputs)
        self.around = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        kinds = {"": nn.Identity(), "down": nn.AvgPool2d(2), "up": nn.Upsample(scale_factor=2, mode="nearest")}
        self.resize = kinds[resize]

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(self.resize(nn.functional.silu(self.norm1(x))))
        scale, shift = self.modulation(nn.functional.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.around(self.resize(x)) + self.conv2(nn.functional.silu(h))


class Attention(nn.Module):
    """Self-attention over all pixels, with its matrix of weights."""

    def __init__(self, channels: int, head_channels: int) -> None:
        super().__init__()
        self.heads, self.norm = max(channels // head_channels, 1), norm(channels)
        self.qkv, self.out = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, _: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w).unbind(1)
        weights = torch.softmax(q.transpose(2, 3) @ k / math.sqrt(c // self.heads), dim=-1)
        return x + self.out((v @ weights.transpose(2, 3)).reshape(b, c, h, w))


class UNet(nn.Module):
    """From x_t, t and the condition to x0."""

    def __init__(self, config: UNetConfig, condition: int) -> None:
        super().__init__()
        base, width, total = config.channels, config.embedding, 2 * config.embedding
        self.base = base
        self.time = nn.Sequential(nn.Linear(base, width), nn.SiLU(), nn.Linear(width, width))
        self.context = nn.Sequential(nn.Linear(condition, width), nn.SiLU(), nn.Linear(width, width))
        self.stem = nn.Conv2d(1, base, 3, padding=1)
        sizes, skips, channels = [base * m for m in config.multipliers], [base], base
        self.down, self.up, self.joins = nn.ModuleList(), nn.ModuleList(), list[bool]()
        for depth, size in enumerate(sizes):
            for _ in range(config.blocks):
                self.down.append(Block(channels, size, total))
                channels = size
                skips.append(channels)
            if depth < len(sizes) - 1:
                self.down.append(Block(channels, channels, total, "down"))
                skips.append(channels)
        middle = [Block(channels, channels, total), Attention(channels, config.head_channels)]
        self.middle = nn.ModuleList([*middle, Block(channels, channels, total)])
        for depth in reversed(range(len(sizes))):
            for _ in range(config.blocks + 1):
                self.up.append(Block(channels + skips.pop(), sizes[depth], total))
                channels = sizes[depth]
                self.joins.append(True)
            if depth:
                self.up.append(Block(channels, channels, total, "up"))
                self.joins.append(False)
        self.norm, self.out = norm(channels), nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        half = self.base // 2
        angle = t[:, None].float() * torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / half)
        embedding = torch.cat([self.time(torch.cat([angle.cos(), angle.sin()], 1)), self.context(condition)], 1)
        skips = [self.stem(x)]
        for block in self.down:
            skips.append(block(skips[-1], embedding))
        h = skips[-1]
        for block in self.middle:
            h = block(h, embedding)
        for block, joins in zip(self.up, self.joins, strict=True):
            h = block(torch.cat([h, skips.pop()], 1) if joins else h, embedding)
        return self.out(nn.functional.silu(self.norm(h)))


class Bottleneck(nn.Module):
    """The block of a ResNet-50."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for a, b, side, step in ((inputs, width, 1, 1), (width, width, 3, stride), (width, 4 * width, 1, 1)):
            layers += [nn.Conv2d(a, b, side, step, side // 2, bias=False), nn.BatchNorm2d(b), nn.ReLU()]
        self.body, self.around = nn.Sequential(*layers[:-1]), nn.Sequential()
        if stride != 1 or inputs != 4 * width:
            around = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            self.around = nn.Sequential(*around)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu(self.body(x) + self.around(x))


class Encoder(nn.Module):
    """A ResNet with one input channel, average pooling and a linear layer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        channels = config.width
        first = nn.Conv2d(1, channels, 7, 2, 3, bias=False)
        layers: list[nn.Module] = [first, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        for stage, blocks in enumerate(config.blocks):
            for block in range(blocks):
                layers.append(Bottleneck(channels, config.width * 2**stage, 2 if stage and not block else 1))
                channels = 4 * config.width * 2**stage
        self.body, self.head = nn.Sequential(*layers), nn.Linear(channels, config.condition)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean(dim=(2, 3)))


class Published(nn.Module):
    """Encoder and denoiser."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.encoder, self.unet = Encoder(config.encoder), UNet(config.unet, config.encoder.condition)
        t = np.arange(config.steps + 1) / config.steps
        f = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
        self.power = torch.from_numpy(np.cumprod(1 - np.minimum(1 - f[1:] / f[:-1], 0.999))).float()


def shared_noise(level: int, _: int, side: int = 96) -> Array:
    """One map of a level for all slices, (1, 1, H, W)."""
    return simplex_noise((side, side), level)[None, None]


@torch.no_grad()
def infer(
    model: Published, slices: Array, brain: NDArray[np.bool_], levels: Sequence[int], noise: Noise = shared_noise
) -> tuple[Array, dict[str, float]]:
    """The map (N, H, W) of the slices (N, H, W) of a volume in [0, 1] with their brain masks, and seconds by step."""
    device, seconds = next(model.parameters()).device, dict.fromkeys(("noise", "network", "post-processing"), 0.0)
    x, total = torch.from_numpy(slices)[:, None].to(device), 0.0
    for level in levels:
        start = time.perf_counter()
        drawn = torch.from_numpy(noise(level, len(slices))).to(device)
        middle = time.perf_counter()
        power = float(model.power[level - 1])
        noisy = math.sqrt(power) * (2 * x - 1) + math.sqrt(1 - power) * drawn
        t = torch.full((len(slices),), level - 1, device=device)
        found = (model.unet(noisy, t, model.encoder(x)) + 1) / 2
        total = total + found.clamp(0, 1).cpu().numpy()[:, 0]
        seconds["noise"] += middle - start
        seconds["network"] += time.perf_counter() - middle
    start = time.perf_counter()
    residual = np.abs(slices - total / len(levels))
    inside = np.stack([ndimage.binary_erosion(one, iterations=EROSION) for one in brain])
    filtered = ndimage.median_filter(np.where(inside, residual, 0), MEDIAN, mode="constant")
    made: Array = np.where(inside, filtered, 0).astype(np.float32)
    seconds["post-processing"] = time.perf_counter() - start
    return made, seconds
