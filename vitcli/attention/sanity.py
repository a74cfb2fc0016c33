"""Sanity: whether a map depends on what the model has learnt, and adds up to what it explains."""

import torch
from torch import Tensor


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rank correlation of maps, (B, h, w) and (B, h, w) -> (B,), -1..1.

    A constant map has no ranks: its correlation is 1 with itself and 0 with any other.
    """
    same = (first == second).flatten(1).all(dim=1)
    ranks, others = _centred_ranks(first), _centred_ranks(second)
    norms = ranks.norm(dim=1) * others.norm(dim=1)
    correlation = torch.where(norms > 0, (ranks * others).sum(dim=1) / norms, 0.0)
    return torch.where(same, 1.0, correlation)


def completeness_error(sums: Tensor, changes: Tensor) -> float:
    """Measure how far maps are from adding up to the change of the score that they share out; 0 is perfect.

    The mean of |sum - change| over images, divided by the mean of |change|: the ratio of a single image says nothing
    where its score hardly changes.

    Args:
        sums: of the weights of each map, (N,).
        changes: y(x) - y(x0), (N,).
    """
    missing, total = float((sums - changes).abs().sum()), float(changes.abs().sum())
    return missing / total if total else float(missing > 0)


def _centred_ranks(maps: Tensor) -> Tensor:
    """Ranks of the weights of each map less their mean, equal weights sharing theirs, (B, h, w) -> (B, P)."""
    weights = maps.flatten(1)
    below = (weights[:, :, None] > weights[:, None]).sum(dim=2)
    above = (weights[:, :, None] < weights[:, None]).sum(dim=2)
    return (below - above) / 2.0
