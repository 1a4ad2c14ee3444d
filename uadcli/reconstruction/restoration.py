"""The training loss of networks that remove synthetic anomalies, and its adaptation to their size.

The adaptive weights and the refinement are after ArSDM (Du et al. 2023, MICCAI, arXiv 2309.01111), which trains a
diffusion model of colonoscopy images with polyps: the loss of an image depends on the share of it that the polyp
covers, and a segmentation network has to find the polyp again in what is generated. Here the residual has to.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from uadcli.config import TrainConfig

VISIBLE = 0.1  # residual, in intensities from 0 to 1, that counts as 63 % abnormal


def emphasis(weight: Tensor, config: TrainConfig) -> Tensor:
    """The weight of each pixel in the loss of slices whose anomalies have the weights `weight` (B, 1, H, W) in [0, 1].

    Adaptive: that of anomaly and remaining slice is in inverse proportion to their areas, with a mean of 1; slices
    without anomaly have 1 everywhere. Otherwise 1 + `lesion_weight` inside the anomaly.
    """
    if not config.adaptive_weight:
        return 1 + config.lesion_weight * weight
    share = weight.mean(dim=(1, 2, 3), keepdim=True)
    both = 2 * share * (1 - share)
    balanced = (weight * (1 - share) + (1 - weight) * share) / both.clamp(min=torch.finfo(weight.dtype).tiny)
    return torch.where(both > 0, balanced, 1.0)


def refinement(residual: Tensor, weight: Tensor) -> Tensor:
    """How badly absolute residuals (B, 1, H, W) show the anomalies of weights `weight`: soft Dice loss, a scalar.

    From 0 to 1: the mean over the slices with an anomaly; 0 if none has one.
    """
    seen = 1 - torch.exp(-residual / VISIBLE)
    overlap, total = ((v.flatten(1).sum(dim=1)) for v in (seen * weight, seen + weight))
    carries = weight.flatten(1).amax(dim=1) > 0
    return ((1 - (2 * overlap + 1) / (total + 1)) * carries).sum() / carries.sum().clamp(min=1)


def loss(
    predicted: Tensor, clean: Tensor, x: Tensor, weight: Tensor, config: TrainConfig, region: Tensor | None = None
) -> Tensor:
    """L1 between prediction and `clean` slices, heavier in anomalies, with the refinement if it has a weight; a scalar.

    All are (B, 1, H, W): x are the slices with anomalies of weights `weight`. Only inside a `region` does it count, but
    the mean is over whole slices.
    """
    inside: Callable[[Tensor], Tensor] = (lambda v: v) if region is None else (lambda v: v * region)
    total = inside((predicted - clean).abs() * emphasis(weight, config)).mean()
    if config.refinement:
        total = total + config.refinement * refinement(inside((x - predicted).abs()), inside(weight))
    return total
