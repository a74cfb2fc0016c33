"""Class weights of the loss, for data sets in which some classes are rare."""

from collections.abc import Sequence

import torch
from torch import Tensor

_BETA = 0.999
"""Beta of the effective number of images: the smaller, the less each further image counts.

Cui et al. 2019 try 0.9 to 0.9999.
"""


def balanced(counts: Sequence[int]) -> Tensor:
    """Return 1 / (number of images) for each class; a class without images counts as if it had one."""
    return 1 / _numbers(counts)


def effective(counts: Sequence[int]) -> Tensor:
    """Return 1 / (effective number of images) for each class.

    The effective number of n images is (1 - beta^n) / (1 - beta) (Cui et al. 2019); a class without images counts as
    if it had one.
    """
    return (1 - _BETA) / (1 - _BETA ** _numbers(counts))


def scaled(weights: Tensor, counts: Sequence[int]) -> Tensor:
    """Scale weights (K,) to a mean of 1 over the images, so that loss and learning rate keep their meaning."""
    numbers = torch.tensor(counts, dtype=torch.float64)
    return (weights.double() * numbers.sum() / (weights.double() * numbers).sum()).float()


def _numbers(counts: Sequence[int]) -> Tensor:
    """Return the number of images of each class, at least 1.

    If all images of a class are unreadable, an infinite weight would turn the weights of all other classes into nan.
    """
    return torch.tensor(counts, dtype=torch.float64).clamp(min=1)
