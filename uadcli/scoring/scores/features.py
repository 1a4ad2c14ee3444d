"""The distance of scan and reconstruction in the features of the trained network (DiAD, He et al. 2024).

DiAD compares both in a network pretrained on photographs; here it is the one that made the reconstruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from uadcli.scoring.scores.base import Array, Evidence, Score

if TYPE_CHECKING:
    from torch import Tensor


def dissimilarity(pairs: Sequence[tuple[Tensor, Tensor]], shape: tuple[int, int]) -> Tensor:
    """1 - cosine similarity over the channels of pairs of feature maps (B, C, h, w), in [0, 2], as (B, *shape).

    Each scale is enlarged bilinearly to `shape`; their mean.
    """
    import torch
    import torch.nn.functional as F

    scales = [1 - F.cosine_similarity(a.float(), b.float(), dim=1)[:, None] for a, b in pairs]
    enlarged = [F.interpolate(one, size=shape, mode="bilinear", align_corners=False) for one in scales]
    return torch.cat(enlarged, dim=1).mean(dim=1).clamp(0, 2)


def compute(evidence: Evidence) -> Array:
    """The dissimilarity of features (X, Y, Z), in [0, 2], post-processed like the residual."""
    import numpy as np

    from uadcli.scoring.residual import postprocess

    width, height, depth = evidence.x.shape
    stack = np.zeros((depth, height, width), dtype=np.float32)
    for indices, pairs in evidence.features:
        stack[indices] = dissimilarity(pairs, (height, width)).cpu().numpy()
    return postprocess(stack.transpose(2, 1, 0), evidence.mask, evidence.scoring)


SCORES = (Score("features", "dissimilarity of the network's features", compute, ("he2024diad",), highest=2.0),)
