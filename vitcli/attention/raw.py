"""Raw attention, as DINO shows it (Caron et al. 2021): p A of the last layer asked for."""

import torch
from torch import Tensor

from vitcli.attention.evidence import Evidence, Options
from vitcli.attention.fusion import fuse_heads


def raw_attention(evidence: Evidence, options: Options) -> Tensor:
    """What the pooled tokens look at in the last layer, (B, N)."""
    row = evidence.pooling_row @ fuse_heads(evidence.probabilities[-1], options.fusion)
    return row if options.mass == 1 else strongest(row, options.mass, evidence.num_prefix_tokens)


def strongest(row: Tensor, mass: float, num_prefix_tokens: int) -> Tensor:
    """Keep the patches that together hold a share of all patches' mass, the strongest first; (B, N) -> (B, N)."""
    patches = row[:, num_prefix_tokens:]
    values, order = patches.sort(dim=1, descending=True)
    before = values.cumsum(dim=1) - values  # the mass of those that are stronger
    kept = torch.zeros_like(patches).scatter(1, order, values * (before < mass * values.sum(dim=1, keepdim=True)))
    return torch.cat([row[:, :num_prefix_tokens], kept], dim=1)
