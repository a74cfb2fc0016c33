"""The picture of many tutorials: the pooled tokens' attention, averaged over layers."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vitcli.attention.fusion import HeadFusion, fuse_heads


def classic_attention(probabilities: Sequence[Tensor], pooling_row: Tensor, fusion: HeadFusion) -> Tensor:
    """The mean over layers of p A.

    Args:
        probabilities: per layer (B, H, N, N).
        pooling_row: the weight of each token in the pooled vector, (N,).
        fusion: how heads become one.

    Returns:
        A weight per token, (B, N).
    """
    return torch.stack([pooling_row @ fuse_heads(layer, fusion) for layer in probabilities]).mean(dim=0)
