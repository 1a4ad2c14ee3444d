"""The conditioning encoder: a ResNet (He et al. 2016) from a clean slice to one vector."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from uadcli.config import EncoderConfig
from uadcli.reconstruction.unet import group_norm


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1 convolutions with expansion 4, each with its norm, and a skip connection."""

    def __init__(self, inputs: int, width: int, stride: int, norm: str) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            _norm(norm, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            _norm(norm, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False),
            _norm(norm, outputs),
        )
        self.around: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.around = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), _norm(norm, outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 width, H / stride, W / stride)."""
        return F.relu(self.body(x) + self.around(x))


class Encoder(nn.Module):
    """c = F_enc(x0): slices (B, 1, H, W) in [0, 1] -> (B, condition). The defaults are ResNet-50 and a linear layer."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.factor = config.unshuffle
        width = config.width
        if config.unshuffle == 1:
            first = nn.Conv2d(1, width, 7, 2, 3, bias=False)
        else:  # pixel-unshuffle has already reduced the resolution
            first = nn.Conv2d(config.unshuffle**2, width, 3, 1, 1, bias=False)
        layers: list[nn.Module] = [first, _norm(config.norm, width), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
        channels = width
        self.stages: list[int] = []  # where in the body each stage ends
        for stage, blocks in enumerate(config.blocks):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(Bottleneck(channels, width * 2**stage, stride, config.norm))
                channels = 4 * width * 2**stage
            self.stages.append(len(layers) - 1)
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(channels, config.condition)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, H, W) in [0, 1] -> (B, condition)."""
        return self.head(self.body(F.pixel_unshuffle(x, self.factor)).mean(dim=(2, 3)))

    def features(self, x: Tensor) -> list[Tensor]:
        """The output (B, C, h, w) of each stage for slices (B, 1, H, W) in [0, 1], finest first."""
        h, found = F.pixel_unshuffle(x, self.factor), list[Tensor]()
        for i, layer in enumerate(self.body):
            h = layer(h)
            if i in self.stages:
                found.append(h)
        return found


def _norm(kind: str, channels: int) -> nn.Module:
    return nn.BatchNorm2d(channels) if kind == "batch" else group_norm(channels)
