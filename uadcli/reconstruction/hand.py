"""HAND (Zhang et al. 2024, arXiv 2409.11534): a network that learns to reconstruct and to recognise known slices alone.

A convolutional encoder and a transformer turn a slice into latent tokens. A decoder reconstructs the slice from them;
in parallel a discriminator says whether they come from an in-distribution (ID) or from a synthetic out-of-distribution
(OOD) slice. The gradient of the reconstruction loss of OOD slices is reversed, so that the network learns not to
reconstruct them. Here it is small: slices at half the model's resolution, 0.1 million parameters.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHRINK, SIZE = 2, 48  # slices of the model are averaged over 2 x 2 pixels
STRIDES = 8  # of the encoder's convolutions: a token for 8 x 8 pixels of these
DEPTH, HEADS, LAYERS = 64, 4, 2  # of the tokens and the transformer
# Weights of the losses: set once, not searched for.
RECONSTRUCTION = 10.0  # of both reconstruction losses, in units of the discriminator's
REVERSAL = 0.1  # of the reversed gradient
WORST = 0.1  # mean squared error from which an OOD slice counts as not reconstructed, and no longer acts


class Reversed(torch.autograd.Function):
    """The identity, whose gradient is multiplied by -`weight` (gradient reversal, Ganin et al. 2016)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        """x as it is, of any shape."""
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        """The reversed gradient of x, and none of the weight."""
        return -ctx.weight * gradient, None


class Hand(nn.Module):
    """Encoder, decoder and discriminator of slices (B, 1, 48, 48) in [0, 1], 0 outside the brain."""

    def __init__(self) -> None:
        super().__init__()
        side = SIZE // STRIDES
        self.convolutions = nn.Sequential(_down(1, 16), _down(16, 32), _down(32, DEPTH))
        self.places = nn.Parameter(torch.zeros(1, side * side, DEPTH))
        layer = nn.TransformerEncoderLayer(DEPTH, HEADS, 2 * DEPTH, 0.0, batch_first=True, norm_first=True)
        self.transformer = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.discriminator = nn.Sequential(nn.Linear(DEPTH, DEPTH), nn.SiLU(), nn.Linear(DEPTH, 1))
        self.decoder = nn.Sequential(_up(DEPTH, 32), _up(32, 16), _up(16, 16), nn.Conv2d(16, 1, 3, 1, 1))

    def encode(self, x: Tensor) -> Tensor:
        """Slices (B, 1, 48, 48) -> latent tokens (B, 36, 64)."""
        return self.transformer(self.convolutions(x).flatten(2).transpose(1, 2) + self.places)

    def decode(self, z: Tensor) -> Tensor:
        """Latent tokens (B, 36, 64) -> reconstructions (B, 1, 48, 48)."""
        side = SIZE // STRIDES
        return self.decoder(z.transpose(1, 2).unflatten(2, (side, side)))

    def judge(self, z: Tensor) -> Tensor:
        """Latent tokens (B, 36, 64) -> log-odds (B,) that the slice is OOD."""
        return self.discriminator(z.mean(1))[:, 0]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction error (B,) and log-odds of OOD (B,) of slices (B, 1, 48, 48)."""
        z = self.encode(x)
        return errors(self.decode(z), x), self.judge(z)


def errors(reconstructed: Tensor, x: Tensor) -> Tensor:
    """Mean squared errors (B,) of reconstructions of slices (B, 1, H, W) over their brain, where they are above 0."""
    brain = x > 0
    return ((reconstructed - x).square() * brain).sum((1, 2, 3)) / brain.sum((1, 2, 3)).clamp(min=1)


def loss(network: Hand, known: Tensor, unknown: Tensor) -> Tensor:
    """The loss of a batch of ID slices and a batch of OOD slices, both (B, 1, 48, 48).

    Reconstruct ID slices; do not reconstruct OOD slices, by gradient reversal through decoder and encoder; distinguish
    them.
    """
    of_known, of_unknown = network.encode(known), network.encode(unknown)
    reconstruction = errors(network.decode(of_known), known).mean()
    reversed_one = Reversed.apply(network.decode(of_unknown), REVERSAL)
    not_reconstruction = errors(reversed_one, unknown).clamp(max=WORST).mean()  # type: ignore[arg-type]
    odds = torch.cat([network.judge(of_known), network.judge(of_unknown)])
    truth = torch.cat([torch.zeros(len(known)), torch.ones(len(unknown))])
    discrimination = F.binary_cross_entropy_with_logits(odds, truth)
    return RECONSTRUCTION * (reconstruction + not_reconstruction) + discrimination


def shrunk(slices: Tensor) -> Tensor:
    """Slices of the model (N, 96, 96) for this network, (N, 1, 48, 48)."""
    return F.avg_pool2d(slices[:, None], SHRINK)


def _down(inputs: int, outputs: int) -> nn.Module:
    """Half the resolution: (B, C, H, W) -> (B, C', H / 2, W / 2)."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GroupNorm(8, outputs), nn.SiLU())


def _up(inputs: int, outputs: int) -> nn.Module:
    """Twice the resolution: (B, C, H, W) -> (B, C', 2 H, 2 W)."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, 1, 1), nn.GroupNorm(8, outputs), nn.SiLU()
    )
