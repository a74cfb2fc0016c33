"""Shares of a batch, one for each process, so that all processes together compute the batch of a single process."""

from typing import NamedTuple

import torch
from torch import Tensor

from vitcli.core.launch import Place


class Share(NamedTuple):
    """The images of a batch that one process takes."""

    batch: int
    """The number of images in the whole batch."""
    members: Tensor
    """The positions of this share's images in the batch, ascending, int64 (b,)."""


def share_of(batch: int, place: Place) -> Share:
    """Compute one process's share of a batch, taken from both ends of the batch.

    Image i is mixed with image B - 1 - i of its batch (``engine.mixing``). Both are in one share, at its two ends, so
    mixing a share with itself in reverse order gives the same images as mixing the batch. Shares differ by at most two
    images; if there are more processes than pairs of images, some shares are empty.
    """
    pairs = -(-batch // 2)
    start, stop = (pairs * rank // place.size for rank in (place.rank, place.rank + 1))
    members = [*range(start, stop), *range(max(batch - stop, stop), batch - start)]
    return Share(batch, torch.tensor(members, dtype=torch.int64))
