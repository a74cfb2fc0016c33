"""Raw attention, as DINO shows it (Caron et al. 2021): p A of the last layer asked for."""

from collections.abc import Sequence

from torch import Tensor

from vitcli.attention.fusion import HeadFusion, fuse_heads


def raw_attention(probabilities: Sequence[Tensor], pooling_row: Tensor, fusion: HeadFusion) -> Tensor:
    """What the pooled tokens look at.

    Args:
        probabilities: per layer (B, H, N, N); the last one counts.
        pooling_row: the weight of each token in the pooled vector, (N,).
        fusion: how heads become one.

    Returns:
        A weight per token, (B, N).
    """
    return pooling_row @ fuse_heads(probabilities[-1], fusion)
