"""An exponential moving average of weights (Polyak & Juditsky 1992), which often generalises better than the last ones."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from vitcli.engine.evaluate import Score

_WARM_UP = 9
"""After t steps the average reaches back over t / 9 of them at the most, because the first weights are the worst."""

_LONG = 10**9
"""Steps that states of earlier versions stand for, whose decay did not grow."""


class WeightAverage:
    """``average = d * average + (1 - d) * weights`` after every step, d = min(decay, t / (t + 9)) after t others.

    Args:
        model: the model that is trained.
        decay: share of the average that stays.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(requires_grad=False).eval()
        self.decay = decay
        self._steps = 0

    @property
    def is_empty(self) -> bool:
        """Tell whether no step was taken in."""
        return not self._steps

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        """Take the model's weights in."""
        share = 1 - min(self.decay, self._steps / (self._steps + _WARM_UP))
        self._steps += 1
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), share)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Nothing: steps count."""

    def stands_for(self, *, average: Score, plain: Score) -> bool:  # noqa: ARG002
        """Tell whether the average is kept for an epoch: it always is."""
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what a run needs to resume."""
        return {"model": self.model.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        self.model.load_state_dict(state["model"])
        self._steps = state["steps"] if "steps" in state else 0 if state["is_empty"] else _LONG
