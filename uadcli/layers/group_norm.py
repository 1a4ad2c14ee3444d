"""Group norm that is fast in bfloat16 on a CPU too."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """GroupNorm (Wu and He 2018), by other operations for bfloat16 on a CPU.

    For channels-last images of few positions torch's own takes up to 15 times as long there as the same sums by other
    operations, a third of the time of a small network. In float32 it is torch's own.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W). Means and variances are summed in float32."""
        if input.dtype is not torch.bfloat16 or input.device.type != "cpu":
            return super().forward(input)
        batch, channels, height, width = input.shape
        groups = (batch, self.num_groups, channels // self.num_groups)
        values = input.permute(0, 2, 3, 1).reshape(batch, height * width, channels).float()
        mean = values.mean(1).view(groups).mean(2, keepdim=True)
        square = (values * values).mean(1).view(groups).mean(2, keepdim=True)
        factor = torch.rsqrt((square - mean * mean).clamp_min(0) + self.eps) * self.weight.view(groups[1:])
        shift = self.bias.view(groups[1:]) - mean * factor
        scale, offset = (part.to(input.dtype).view(batch, channels, 1, 1) for part in (factor, shift))
        return torch.addcmul(offset, input, scale)
