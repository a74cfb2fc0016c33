"""The share of every batch that one of several processes takes, so that together they take what one process would."""

from typing import NamedTuple

import torch
from torch import Tensor

from vitcli.core.launch import Place


class Share(NamedTuple):
    """Some images of a batch."""

    batch: int
    """How many images the whole batch has."""
    members: Tensor
    """Where these stand in it, rising, int64 (b,)."""


def share_of(batch: int, place: Place) -> Share:
    """One process's share of a batch, from both ends of it.

    Image i is mixed with image B - 1 - i of its batch (``engine.mixing``): both are in one share, at its two ends, so that
    to mix a share with itself in reverse order is to mix the batch. Shares differ by two images at the most; where there
    are more processes than pairs of images, some are empty.
    """
    pairs = -(-batch // 2)
    start, stop = (pairs * rank // place.size for rank in (place.rank, place.rank + 1))
    members = [*range(start, stop), *range(max(batch - stop, stop), batch - start)]
    return Share(batch, torch.tensor(members, dtype=torch.int64))
