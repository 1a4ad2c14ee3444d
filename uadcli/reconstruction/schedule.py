"""The forward process of the diffusion model."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def alpha_bar(steps: int = 1000, offset: float = 0.008) -> Tensor:
    """Cumulative signal power of the cosine schedule, shape (steps,); index 0 is the paper's t = 1.

    beta_t = min(1 - f(t)/f(t-1), 0.999) with f(t) = cos^2((t/T + s)/(1 + s) pi/2) (Nichol and Dhariwal 2021, eq. 17).
    """
    # on the CPU even where a network is only outlined: arithmetic on `meta` tensors imports half of torch, for seconds
    t = torch.arange(steps + 1, dtype=torch.float64, device="cpu") / steps
    f = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - beta, dim=0).float()


def add_noise(x0: Tensor, t: Tensor, noise: Tensor, alpha_bars: Tensor) -> Tensor:
    """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) n, for x0 and noise (B, 1, H, W) and t (B,) (Ho et al. 2020, eq. 4)."""
    power = alpha_bars[t].view(-1, 1, 1, 1)
    return power.sqrt() * x0 + (1 - power).sqrt() * noise


def reverse_step(xt: Tensor, x0: Tensor, noise: Tensor, power: float, next_power: float, eta: float) -> Tensor:
    """x_s from x_t and an estimate of x_0 (any shape), for s < t with alpha_bar `power` at t and `next_power` at s.

    x_s = sqrt(abar_s) x_0 + sqrt(1 - abar_s - sigma^2) n_hat + sigma z with n_hat the noise implied by x_t and x_0, and
    sigma^2 = eta^2 (1 - abar_s) / (1 - abar_t) (1 - abar_t / abar_s): DDIM for eta 0, DDPM for eta 1 (Song et al. 2021,
    eq. 12 and 16). At abar_s = 1 it is x_0.
    """
    implied = (xt - math.sqrt(power) * x0) / math.sqrt(1 - power)
    variance = eta**2 * (1 - next_power) / (1 - power) * (1 - power / next_power)
    kept = math.sqrt(max(1 - next_power - variance, 0.0))
    return math.sqrt(next_power) * x0 + kept * implied + math.sqrt(variance) * noise
