"""Attention rollout (Abnar & Zuidema 2020): attention and residuals followed from the output to the input."""

from collections.abc import Sequence

from torch import Tensor

from vitcli.attention.fusion import HeadFusion, fuse_heads


def attention_rollout(probabilities: Sequence[Tensor], pooling_row: Tensor, fusion: HeadFusion) -> Tensor:
    """P prod_l R_l with R_l = (A_l + I), rows divided by their sum.

    The row is carried from the last layer to the first, so that a layer costs N^2 and not N^3.

    Args:
        probabilities: per layer (B, H, N, N), the first layer first.
        pooling_row: the weight of each token in the pooled vector, (N,).
        fusion: how heads become one.

    Returns:
        A weight per token, (B, N); each row sums to 1.
    """
    row = pooling_row.expand(probabilities[0].shape[0], -1)
    for layer in reversed(probabilities):
        attention = fuse_heads(layer, fusion)
        weights = row / (attention.sum(dim=-1) + 1)  # the identity adds 1 to each row's sum
        row = weights + (weights[:, None] @ attention)[:, 0]
    return row
