"""The interface of every method's network, and the conditioned diffusion model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uadcli.config import ModelConfig
from uadcli.reconstruction.encoder import Encoder
from uadcli.reconstruction.schedule import add_noise, alpha_bar
from uadcli.reconstruction.unet import UNet


class Network(nn.Module):
    """The network of a method: from slices to slices; `config` holds the settings to build it again."""

    config: ModelConfig

    def encode(self, x0: Tensor) -> Tensor | None:
        """One vector (B, d) for each slice (B, 1, H, W) in [0, 1]; None if the network has no encoder."""
        return None

    def features(self, x0: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Feature maps (B, C, h, w) of noise-free slices (B, 1, H, W) in [0, 1] at several scales, finest first.

        Empty if the network has none. `condition` (B, d) replaces a run of the encoder.
        """
        return []

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        """Slices (B, 1, H, W) in [0, 1] -> their reconstruction from step index t (B,) and noise, in about [0, 1].

        Networks that are not diffusion models ignore t and noise.
        """
        raise NotImplementedError


class ConditionedDiffusion(Network):
    """cDDPM (Behrendt et al. 2023): x0_hat = D(x_t, t, c) with c = F_enc(x0); without `conditioned`, the plain DDPM."""

    alpha_bar: Tensor
    encoder: Encoder | None
    unet: UNet

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder) if config.conditioned else None
        self.unet = UNet(config.unet, config.encoder.condition if config.conditioned else 0)
        self.register_buffer("alpha_bar", alpha_bar(config.steps), persistent=False)

    def encode(self, x0: Tensor) -> Tensor | None:
        """Condition vectors (B, d) of noise-free slices (B, 1, H, W) in [0, 1]; None for the plain DDPM."""
        return self.encoder(x0) if self.encoder is not None else None

    def features(self, x0: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """The levels of the UNet's down path at step 0, without noise; arguments as in `Network.features`."""
        c = self.encode(x0) if condition is None else condition
        return self.unet.features(2 * x0 - 1, x0.new_zeros(len(x0), dtype=torch.long), c)

    def forward(self, x0: Tensor, t: Tensor, noise: Tensor, condition: Tensor | None = None) -> Tensor:
        """Noise slices (B, 1, H, W) in [0, 1] to step index t (B,) and predict them back in one step, in [0, 1].

        `condition` (B, d) replaces a run of the encoder.
        """
        c = self.encode(x0) if condition is None else condition
        return self.denoise(add_noise(2 * x0 - 1, t, noise, self.alpha_bar), t, c)

    def denoise(self, xt: Tensor, t: Tensor, condition: Tensor | None) -> Tensor:
        """x0_hat (B, 1, H, W) in [0, 1] of x_t in about [-1, 1] at step index t (B,)."""
        return (self.unet(xt, t, condition) + 1) / 2
