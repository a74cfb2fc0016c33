"""Score an epoch on the validation images: the weights and, if enabled, their average."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from vitcli.core.optim_config import OptimConfig
from vitcli.engine.ema import WeightAverage
from vitcli.engine.evaluate import Score
from vitcli.engine.swa import EpochAverage

Average = WeightAverage | EpochAverage


def build_average(model: nn.Module, config: OptimConfig) -> Average | None:
    """Build the average of weights that a configuration asks for; None: it asks for none."""
    if config.ema:
        return WeightAverage(model, config.ema_decay)
    return EpochAverage(model, first=config.epochs - config.swa_epochs + 1) if config.swa_epochs else None


class Verdict(NamedTuple):
    """The validation scores of one epoch."""

    plain: Score
    average: Score | None = None
    keeps_average: bool = False
    """True if the average is used for the epoch, instead of the plain weights."""

    @property
    def kept(self) -> Score:
        """The score of the weights that are used for the epoch: the plain ones or their average."""
        return self.average if self.average and self.keeps_average else self.plain

    @property
    def figures(self) -> dict[str, float]:
        """The fields of an ``EpochRecord`` that contain these scores."""
        figures = {"val_loss": self.kept.loss, "val_accuracy": self.kept.accuracy}
        if self.average:
            for name, score in (("plain", self.plain), ("average", self.average)):
                figures |= {f"{name}_val_loss": score.loss, f"{name}_val_accuracy": score.accuracy}
        return figures


def judge(model: nn.Module, average: Average | None, *, score: Callable[[nn.Module], Score]) -> Verdict:
    """Score the weights and, if there is one already, their average, which needs a second validation."""
    plain = score(model)
    if average is None or average.is_empty:
        return Verdict(plain)
    averaged = score(average.model)
    return Verdict(plain, averaged, average.stands_for(average=averaged, plain=plain))
