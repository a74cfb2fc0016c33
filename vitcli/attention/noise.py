"""Noise: the map that every other one must beat."""

import torch
from torch import Tensor

from vitcli.attention.evidence import Evidence, Options


def random_map(evidence: Evidence, _options: Options) -> Tensor:
    """Uniform random weights, (B, N); one image always gets the same ones."""
    generators = [torch.Generator().manual_seed(seed) for seed in evidence.seeds]
    tokens = len(evidence.pooling_row)
    rows = torch.stack([torch.rand(tokens, generator=generator) for generator in generators])
    return rows.to(evidence.pooling_row)
