"""One matrix out of many heads, one picture out of a row of tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vitcli.attention.evidence import Evidence, HeadFusion


def fuse_heads(matrices: Tensor, fusion: HeadFusion) -> Tensor:
    """(B, H, N, N) -> (B, N, N)."""
    if fusion == "mean":
        return matrices.mean(dim=1)
    return matrices.amax(dim=1) if fusion == "max" else matrices.amin(dim=1)


def fused_relevance(evidence: Evidence, fusion: HeadFusion) -> Sequence[Tensor]:
    """What of the attention speaks for the class: (G_l * A_l)+ of every layer, heads fused; each (B, N, N)."""
    pairs = zip(evidence.gradients, evidence.probabilities, strict=True)
    return [fuse_heads((gradient * layer).relu(), fusion) for gradient, layer in pairs]


def patch_map(row: Tensor, *, grid: tuple[int, int], num_prefix_tokens: int) -> Tensor:
    """The patches of a row of tokens, (B, N) -> (B, h, w); prefix tokens are left out by their count."""
    return row[:, num_prefix_tokens:].reshape(-1, *grid)


def sink_share(row: Tensor, num_prefix_tokens: int) -> Tensor:
    """Share of a row's mass that rests on prefix tokens, (B, N) -> (B,)."""
    total = row.sum(dim=1)
    return torch.where(total > 0, row[:, :num_prefix_tokens].sum(dim=1) / total, 0.0)
