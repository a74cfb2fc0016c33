"""Functions that fuse attention heads into one matrix, and turn rows of tokens into patch maps."""

import torch
from torch import Tensor

from vitcli.attention.evidence import HeadFusion


def fuse_heads(matrices: Tensor, fusion: HeadFusion) -> Tensor:
    """Fuse the heads of attention matrices, (B, H, N, N) -> (B, N, N)."""
    if fusion == "mean":
        return matrices.mean(dim=1)
    return matrices.amax(dim=1) if fusion == "max" else matrices.amin(dim=1)


def fused_relevance(gradients: Tensor, attention: Tensor, fusion: HeadFusion) -> Tensor:
    """Compute a layer's attention that supports the class, (G * A)+, fused over heads: (B, H, N, N) -> (B, N, N)."""
    return fuse_heads((gradients * attention).relu_(), fusion)


def patch_map(row: Tensor, *, grid: tuple[int, int], num_prefix_tokens: int) -> Tensor:
    """Return the patch tokens of each row as a map, (B, N) -> (B, h, w); prefix tokens are left out."""
    return row[:, num_prefix_tokens:].reshape(-1, *grid)


def sink_share(row: Tensor, num_prefix_tokens: int) -> Tensor:
    """Compute the share of each row's mass on prefix tokens, (B, N) -> (B,)."""
    total = row.sum(dim=1)
    return torch.where(total > 0, row[:, :num_prefix_tokens].sum(dim=1) / total, 0.0)
