"""The mean of the weights at the ends of the last epochs (Izmailov et al. 2018, "SWA"), a wide minimum's middle.

While it is taken, the learning rate stays what it is (``schedule``), so that the epochs differ; a ViT has no batch norm,
whose statistics would have to be taken again.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from vitcli.engine.evaluate import Score


class EpochAverage:
    """Every epoch from ``first`` on counts alike; it stands for an epoch where it is better than the weights themselves.

    Args:
        model: the model that is trained.
        first: the first epoch that is taken in.
    """

    def __init__(self, model: nn.Module, *, first: int) -> None:
        self.model = deepcopy(model).requires_grad_(requires_grad=False).eval()
        self._first = first
        self._count = 0

    @property
    def is_empty(self) -> bool:
        """Tell whether no epoch was taken in."""
        return not self._count

    def after_step(self, model: nn.Module) -> None:
        """Nothing: epochs count."""

    @torch.no_grad()
    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Take the model's weights in; the first epoch's are the average."""
        if epoch < self._first:
            return
        self._count += 1
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 / self._count)

    def stands_for(self, *, average: Score, plain: Score) -> bool:
        """Tell whether the average is kept for an epoch."""
        return average.is_better_than(plain)

    def state_dict(self) -> dict[str, Any]:
        """Return what a run needs to resume; nothing before the first epoch was taken in."""
        if self.is_empty:
            return {}
        return {"model": self.model.state_dict(), "count": self._count, "first": self._first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave; an average that began elsewhere, in a shorter training, begins again."""
        if state and state["first"] == self._first:
            self.model.load_state_dict(state["model"])
            self._count = state["count"]
