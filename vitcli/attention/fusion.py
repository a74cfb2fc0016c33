"""One matrix out of many heads, one picture out of a row of tokens."""

import torch
from torch import Tensor

from vitcli.attention.evidence import HeadFusion


def fuse_heads(matrices: Tensor, fusion: HeadFusion) -> Tensor:
    """(B, H, N, N) -> (B, N, N)."""
    if fusion == "mean":
        return matrices.mean(dim=1)
    return matrices.amax(dim=1) if fusion == "max" else matrices.amin(dim=1)


def fused_relevance(gradients: Tensor, attention: Tensor, fusion: HeadFusion) -> Tensor:
    """Return the attention of a layer that speaks for the class, (G * A)+, heads fused: (B, H, N, N) -> (B, N, N)."""
    return fuse_heads((gradients * attention).relu_(), fusion)


def patch_map(row: Tensor, *, grid: tuple[int, int], num_prefix_tokens: int) -> Tensor:
    """The patches of a row of tokens, (B, N) -> (B, h, w); prefix tokens are left out by their count."""
    return row[:, num_prefix_tokens:].reshape(-1, *grid)


def sink_share(row: Tensor, num_prefix_tokens: int) -> Tensor:
    """Share of a row's mass that rests on prefix tokens, (B, N) -> (B,)."""
    total = row.sum(dim=1)
    return torch.where(total > 0, row[:, :num_prefix_tokens].sum(dim=1) / total, 0.0)
