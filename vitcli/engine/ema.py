"""An exponential moving average of weights (Polyak & Juditsky 1992), which often generalises better than the last ones."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from vitcli.engine.evaluate import Score


class WeightAverage:
    """``average = decay * average + (1 - decay) * weights`` after every step; the first step is taken as it is.

    Args:
        model: the model that is trained.
        decay: share of the average that stays.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = deepcopy(model).requires_grad_(requires_grad=False).eval()
        self.decay = decay
        self.is_empty = True

    @torch.no_grad()
    def after_step(self, model: nn.Module) -> None:
        """Take the model's weights in."""
        share = 1.0 if self.is_empty else 1 - self.decay
        self.is_empty = False
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), share)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Nothing: steps count."""

    def stands_for(self, *, average: Score, plain: Score) -> bool:
        """Whether the average is kept for an epoch; it lags behind in the first ones."""
        return average.is_better_than(plain)

    def state_dict(self) -> dict[str, Any]:
        """What a training run needs to go on."""
        return {"model": self.model.state_dict(), "is_empty": self.is_empty}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state_dict`` gave."""
        self.model.load_state_dict(state["model"])
        self.is_empty = state["is_empty"]
