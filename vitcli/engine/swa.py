"""Stochastic weight averaging (SWA, Izmailov et al. 2018): the mean of the weights at the ends of the last epochs.

The mean lies in the middle of a wide minimum. During these epochs the learning rate is constant (``schedule``), so that
their weights differ. A ViT has no batch norm, whose statistics would have to be computed again.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from vitcli.engine.evaluate import Score


class EpochAverage:
    """Mean of the weights after every epoch from ``first`` on; it is used if it scores better than the plain weights.

    Args:
        model: the model that is trained.
        first: the first epoch in the average.
    """

    def __init__(self, model: nn.Module, *, first: int) -> None:
        self.model = deepcopy(model).requires_grad_(requires_grad=False).eval()
        self._first = first
        self._count = 0

    @property
    def is_empty(self) -> bool:
        """Tell whether the average contains no epoch yet."""
        return not self._count

    def after_step(self, model: nn.Module) -> None:
        """Do nothing: this average is updated after every epoch."""

    @torch.no_grad()
    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Update the average with the model's weights, if it has begun."""
        if epoch < self._first:
            return
        self._count += 1
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 / self._count)

    def stands_for(self, *, average: Score, plain: Score) -> bool:
        """Tell whether the average is used instead of the plain weights for an epoch: if it scores better."""
        return average.is_better_than(plain)

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a run needs to resume; empty if the average has not begun."""
        if self.is_empty:
            return {}
        return {"model": self.model.state_dict(), "count": self._count, "first": self._first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned.

        If the average began in another epoch, because the training was shorter then, the state is ignored.
        """
        if state and state["first"] == self._first:
            self.model.load_state_dict(state["model"])
            self._count = state["count"]
