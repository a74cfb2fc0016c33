"""The settings of distillation: learning from another model besides labels."""

from dataclasses import dataclass
from typing import Literal

from vitcli.core.model_config import check


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherConfig:
    """Distillation (Hinton et al. 2015; Touvron et al. 2021, DeiT)."""

    name: str = ""
    """A run, a file or folder of weights, pretrained ones, or an address; its classes are those of the data. Empty: none."""
    kind: Literal["auto", "soft", "hard"] = "auto"
    """soft: its probabilities; hard: the class it answers with; auto: hard where the student has a distillation head,
    which is what DeiT does, else soft."""
    alpha: float = 0.5
    """Share of the loss that is the teacher's; the rest is the labels', with class weights and smoothing."""
    temperature: float = 3.0
    """Soft: logits of both are divided by it, and the loss is multiplied by its square."""

    def __post_init__(self) -> None:
        check(0 < self.alpha <= 1, f"alpha = {self.alpha} is not in (0, 1]", "0.5 is usual; without --teacher it is 0")
        check(0 < self.temperature < float("inf"), f"temperature = {self.temperature} is not positive, or endless")
