"""VAE: the classic baseline (Kingma and Welling 2014; Baur et al. 2021), with its slice score in latent space."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uadcli.arrays import Array
from uadcli.config import ModelConfig, TrainConfig
from uadcli.reconstruction.encoder import Encoder
from uadcli.reconstruction.model import Network
from uadcli.reconstruction.noise import NoiseBank
from uadcli.reconstruction.reconstructors.base import Method, OnePassReconstructor, device_of
from uadcli.reconstruction.unet import group_norm

BETA = 1e-3  # weight of the Kullback-Leibler divergence relative to the mean absolute error (method 3)
DOUBLINGS = 4  # from 6 x 6 cells to 96 x 96 pixels


class VariationalAutoencoder(Network):
    """A ResNet to a normal distribution over vectors of the condition's size, and a convolutional decoder."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size, base = config.encoder.condition, config.unet.channels
        self.down = Encoder(replace(config.encoder, condition=2 * size))
        self.cells = config.unet.image_size // 2**DOUBLINGS
        widths = [base * m for m in (4, 4, 2, 1, 1)]
        self.first = nn.Linear(size, widths[0] * self.cells**2)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Upsample(scale_factor=2.0, mode="nearest"), nn.Conv2d(before, after, 3, padding=1)]
            layers += [group_norm(after), nn.SiLU()]
        self.up = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def moments(self, x0: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance, (B, d) each, of the latent vectors of slices (B, 1, H, W) in [0, 1]."""
        mean, log_variance = self.down(x0).chunk(2, dim=1)
        return mean, log_variance.clamp(-20, 10)

    def encode(self, x0: Tensor) -> Tensor:
        """The mean latent vectors (B, d)."""
        return self.moments(x0)[0]

    def features(self, x0: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """The stages of the encoder; see `Network.features`."""
        return self.down.features(x0)

    def decode(self, vectors: Tensor) -> Tensor:
        """Latent vectors (B, d) -> slices (B, 1, H, W), about [0, 1]."""
        h = self.first(vectors).view(len(vectors), -1, self.cells, self.cells)
        return self.up(h)

    def forward(
        self,
        x0: Tensor,
        t: Tensor | None = None,
        noise: Tensor | None = None,
        condition: Tensor | None = None,
        draw: Tensor | None = None,
    ) -> Any:
        """The decoded mean of slices (B, 1, H, W); step, noise and condition are ignored.

        With `draw` (B, d) of N(0, 1), for training: the decoded draw, the mean and the logarithm of the variance.
        """
        mean, log_variance = self.moments(x0)
        if draw is None:
            return self.decode(mean)
        return self.decode(mean + draw * (0.5 * log_variance).exp()), mean, log_variance


@torch.inference_mode()
def latent_dissimilarity(model: Any, slices: Array, recon: Array, batch_size: int = 32) -> Array:
    """The distance of slices (N, H, W) from their reconstructions in latent space, shape (N,), >= 0.

    The root mean square difference of the two mean vectors (after Albu et al. 2020). Runs on the device of `model`, the
    network of the reconstruction.
    """
    device, result = device_of(model), []
    for first in range(0, len(slices), batch_size):
        part = slice(first, first + batch_size)
        a, b = (model.encode(torch.from_numpy(v[part][:, None]).to(device)) for v in (slices, recon))
        result.append((a - b).square().mean(dim=1).sqrt().float().cpu().numpy())
    return np.concatenate(result) if result else np.zeros(0, dtype=np.float32)


def loss(
    model: VariationalAutoencoder, clean: Tensor, bank: NoiseBank, generator: torch.Generator, config: TrainConfig
) -> Tensor:
    """Mean absolute error of a decoded draw, plus BETA times the divergence from N(0, 1), in nats for each slice."""
    clean = clean.to(device_of(model), memory_format=torch.channels_last)
    draw = torch.randn(len(clean), model.config.encoder.condition, generator=generator, device=generator.device)
    predicted, mean, log_variance = model(clean, draw=draw.to(clean.device))
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
    return (predicted - clean).abs().mean() + BETA * divergence


METHOD = Method(
    "vae",
    "variational autoencoder (VAE)",
    VariationalAutoencoder,
    loss,
    OnePassReconstructor,
    cites=("kingma2014auto", "baur2021autoencoders", "albu2020improved"),
    levels=(),
    draws=False,
    slice_score=latent_dissimilarity,
)
