"""The picture of many tutorials: the pooled tokens' attention, averaged over layers."""

import torch
from torch import Tensor

from vitcli.attention.evidence import Evidence, Options
from vitcli.attention.fusion import fuse_heads


def classic_attention(evidence: Evidence, options: Options) -> Tensor:
    """The mean over layers of p A, (B, N)."""
    rows = [evidence.pooling_row @ fuse_heads(layer, options.fusion) for layer in evidence.probabilities]
    return torch.stack(rows).mean(dim=0)
