"""Exponential moving average of weights (Polyak & Juditsky 1992), often better than the last weights alone."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from vitcli.engine.evaluate import Score

_WARM_UP = 9
"""After t steps the average covers at most the last t / 9 steps, because the first weights are the worst."""

_LONG = 10**9
"""Number of steps to assume for training states of earlier versions, whose decay did not grow."""


class WeightAverage:
    """Exponential moving average of a model's weights, updated after every step.

    ``average = d * average + (1 - d) * weights``, where d = min(decay, t / (t + 9)) and t counts the earlier steps.

    Args:
        model: the model that is trained.
        decay: share of the average that a step keeps, at most.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(requires_grad=False).eval()
        self.decay = decay
        self._steps = 0

    @property
    def is_empty(self) -> bool:
        """Tell whether the average contains no step yet."""
        return not self._steps

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        """Update the average with the model's weights."""
        share = 1 - min(self.decay, self._steps / (self._steps + _WARM_UP))
        self._steps += 1
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), share)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Do nothing: this average is updated after every step."""

    def stands_for(self, *, average: Score, plain: Score) -> bool:  # noqa: ARG002
        """Tell whether the average is used instead of the plain weights for an epoch: always."""
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a run needs to resume."""
        return {"model": self.model.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that ``state_dict`` returned."""
        self.model.load_state_dict(state["model"])
        self._steps = state["steps"] if "steps" in state else 0 if state["is_empty"] else _LONG
