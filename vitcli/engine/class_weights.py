"""Weights of classes in the loss, for data in which some are rare."""

from collections.abc import Sequence

import torch
from torch import Tensor

_BETA = 0.999
"""How fast further images of a class stop telling news (Cui et al. 2019 try 0.9 to 0.9999)."""


def balanced(counts: Sequence[int]) -> Tensor:
    """One over the number of images of a class; a class without images is weighed as if it had one."""
    return 1 / _numbers(counts)


def effective(counts: Sequence[int]) -> Tensor:
    """One over the effective number of images, (1 - beta^n) / (1 - beta) (Cui et al. 2019); none count as one."""
    return (1 - _BETA) / (1 - _BETA ** _numbers(counts))


def scaled(weights: Tensor, counts: Sequence[int]) -> Tensor:
    """Weights (K,) with a mean of 1 over the images, so that the loss and the learning rate keep their meaning."""
    numbers = torch.tensor(counts, dtype=torch.float64)
    return (weights.double() * numbers.sum() / (weights.double() * numbers).sum()).float()


def _numbers(counts: Sequence[int]) -> Tensor:
    """Images of each class; where all of a class are unreadable, an infinite weight would make every other one nan."""
    return torch.tensor(counts, dtype=torch.float64).clamp(min=1)
