"""DAE: a network trained to remove coarse noise, applied to slices without noise (Kascenas et al. 2022, 2023).

One pass per slice, without levels or encoder: the fast choice on a CPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from uadcli.config import ModelConfig, TrainConfig
from uadcli.reconstruction.model import Network
from uadcli.reconstruction.noise import NoiseBank
from uadcli.reconstruction.reconstructors.base import Method, OnePassReconstructor, device_of
from uadcli.reconstruction.unet import UNet

CELLS, STD = 16, 0.2  # of the noise: cells along a side, and their standard deviation (method 3)


class DenoisingAutoencoder(Network):
    """The family's UNet at step 0 and without a condition."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.unet = UNet(config.unet, 0)

    def features(self, x0: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """The levels of the down path; see `Network.features`."""
        return self.unet.features(2 * x0 - 1, x0.new_zeros(len(x0), dtype=torch.long), None)

    def forward(
        self, x0: Tensor, t: Tensor | None = None, noise: Tensor | None = None, condition: Tensor | None = None
    ) -> Tensor:
        """Slices (B, 1, H, W) in about [0, 1] -> the same slices without anomalies; the other arguments are ignored."""
        step = torch.zeros(len(x0), dtype=torch.long, device=x0.device)
        return (self.unet(2 * x0 - 1, step, None) + 1) / 2


def coarse_noise(batch: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Normal values on 16 x 16 cells, upsampled bilinearly to (B, 1, H, W) and shifted at random for each slice.

    Shifted by cropping a larger field; the paper rolls it, which leaves a seam.
    """
    height, width = (n + n // CELLS for n in shape)
    coarse = STD * torch.randn(batch, 1, CELLS + 1, CELLS + 1, generator=generator)
    field = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    tops = torch.randint(height - shape[0] + 1, (batch,), generator=generator).tolist()
    lefts = torch.randint(width - shape[1] + 1, (batch,), generator=generator).tolist()
    return torch.stack([f[:, i : i + shape[0], j : j + shape[1]] for f, i, j in zip(field, tops, lefts, strict=True)])


def loss(
    model: DenoisingAutoencoder, clean: Tensor, bank: NoiseBank, generator: torch.Generator, config: TrainConfig
) -> Tensor:
    """Mean squared error inside the brain of `clean` slices (B, 1, H, W), after adding coarse noise; a scalar."""
    device = device_of(model)
    brain = (clean > 0).to(clean.dtype)
    noisy = clean + brain * coarse_noise(len(clean), (clean.shape[2], clean.shape[3]), generator)
    predicted = model(noisy.to(device, memory_format=torch.channels_last))
    clean, brain = clean.to(device), brain.to(device)
    return ((predicted - clean) ** 2 * brain).sum() / brain.sum().clamp(min=1)


METHOD = Method(
    "dae",
    "denoising autoencoder (DAE)",
    DenoisingAutoencoder,
    loss,
    OnePassReconstructor,
    cites=("kascenas2022denoising", "kascenas2023role"),
    levels=(),
    draws=False,
)
