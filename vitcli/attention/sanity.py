"""Sanity measures of maps: the correlation between two maps, and the completeness of integrated gradients."""

import torch
from torch import Tensor


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Compute Spearman's rank correlation of maps, (B, h, w) and (B, h, w) -> (B,), -1..1.

    A constant map has no ranks: its correlation is 1 with itself and 0 with any other map.
    """
    same = (first == second).flatten(1).all(dim=1)
    ranks, others = _centred_ranks(first), _centred_ranks(second)
    norms = ranks.norm(dim=1) * others.norm(dim=1)
    correlation = torch.where(norms > 0, (ranks * others).sum(dim=1) / norms, 0.0)
    return torch.where(same, 1.0, correlation)


def completeness_error(sums: Tensor, changes: Tensor) -> float:
    """Measure how far the weights of maps are from adding up to the change of the score; 0 is perfect.

    This is the mean of |sum - change| over images, divided by the mean of |change|. A ratio per image would say nothing
    about images whose score hardly changes.

    Args:
        sums: the sum of the weights of each map, (N,).
        changes: the change of the score of each image, y(x) - y(x0), (N,).
    """
    missing, total = float((sums - changes).abs().sum()), float(changes.abs().sum())
    return missing / total if total else float(missing > 0)


def _centred_ranks(maps: Tensor) -> Tensor:
    """Compute the ranks of each map's weights minus their mean, (B, h, w) -> (B, P); equal weights share a rank."""
    weights = maps.flatten(1)
    below = (weights[:, :, None] > weights[:, None]).sum(dim=2)
    above = (weights[:, :, None] < weights[:, None]).sum(dim=2)
    return (below - above) / 2.0
