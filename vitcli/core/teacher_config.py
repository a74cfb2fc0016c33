"""The configuration of distillation: training with a teacher model besides the labels."""

from dataclasses import dataclass
from typing import Literal

from vitcli.core.model_config import check


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherConfig:
    """Settings of distillation (Hinton et al. 2015; Touvron et al. 2021, DeiT)."""

    name: str = ""
    """A run, a file or folder of weights, the name of pretrained weights, or an address. The teacher must have the same
    classes as the data. Empty: no teacher."""
    kind: Literal["auto", "soft", "hard"] = "auto"
    """soft: learn the teacher's probabilities; hard: learn the class that it predicts; auto: hard if the student has a
    distillation head, as in DeiT, else soft."""
    alpha: float = 0.5
    """Share of the teacher in the loss; the labels, with class weights and smoothing, make up the rest."""
    temperature: float = 3.0
    """Temperature of soft distillation: it divides the logits of both models, and its square multiplies the loss."""

    def __post_init__(self) -> None:
        check(
            0 < self.alpha <= 1,
            f"alpha = {self.alpha:g} is not above 0 and at most 1",
            "0.5 is usual; without --teacher, labels are the whole loss",
        )
        check(0 < self.temperature < float("inf"), f"temperature = {self.temperature:g} is not positive and finite")
