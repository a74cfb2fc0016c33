"""The question that maps answer: methods, classes, layers and options, in numbers instead of words."""

from dataclasses import dataclass, field, replace
from typing import get_args

from vitcli.attention.evidence import HeadFusion, Options
from vitcli.attention.registry import METHODS, MethodEntry
from vitcli.attention.targets import ClassChoice, TargetScore
from vitcli.core.errors import ModelError, UsageError, check_choice
from vitcli.models.capture import checked_index
from vitcli.models.vit import VisionTransformer


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """The maps to compute, and the options for computing them."""

    methods: tuple[str, ...]
    choices: tuple[ClassChoice, ...] = (ClassChoice(),)
    """The target classes; a method that does not depend on the class gives one map for all of them."""
    score: TargetScore = "logit"
    layers: tuple[int, ...] = ()
    """The layers to use, from 0, negative numbers from the end; empty: the default layers of each method."""
    heads: tuple[int, ...] = ()
    """The heads to use, from 0, negative numbers from the end; empty: all."""
    query: int | None = None
    """The patch whose attention to show; None: show the attention of the pooled tokens."""
    steps: int = 16
    """The number of steps of integrated gradients."""
    options: Options = field(default_factory=Options)
    watches_all: bool = False
    """Keep the attention of all the question's layers, even if no method needs it."""

    def checked(self, model: VisionTransformer) -> "Question":
        """Check the question against a model, and return it with layers and heads counted from 0 and sorted.

        Raises:
            UsageError: a method does not exist, or an option is out of range or does not go with a method.
            ModelError: the model has no such layer, head or patch, or no classifier for a method that explains a class.
        """
        config = model.config
        for name in self.methods:
            self._check_method(name, METHODS[name], has_classes=config.num_classes > 0)
        check_choice("score", self.score, get_args(TargetScore))
        check_choice("fusion", self.options.fusion, get_args(HeadFusion))
        if self.score == "contrast" and config.num_classes == 1:
            raise ModelError(
                "contrast needs a second class, and this model has only one", hint="without it, the logit is explained"
            )
        if self.query is not None:
            checked_index(self.query, config.grid[0] * config.grid[1], "patch")
        if self.steps < 1:
            raise UsageError(f"steps = {self.steps} is not positive")
        if not 0 <= self.options.discard < 1:
            raise UsageError(f"discard = {self.options.discard:g} is not at least 0 and less than 1")
        if not 0 < self.options.mass <= 1:
            raise UsageError(f"mass = {self.options.mass:g} is not above 0 and at most 1")
        return replace(
            self,
            layers=tuple(sorted({checked_index(layer, config.depth, "layer") for layer in self.layers})),
            heads=tuple(sorted({checked_index(head, config.num_heads, "head") for head in self.heads})),
        )

    def _check_method(self, name: str, entry: MethodEntry, *, has_classes: bool) -> None:
        if entry.chooses_class and not has_classes:
            raise ModelError(f"the model has no classifier, and {name} explains classes", hint="--method rollout")
        if entry.chooses_class and self.query is not None:
            raise UsageError(f"{name} explains a class, so it cannot show what a patch looks at", hint="--method raw")

    def layers_of(self, method: str, depth: int) -> tuple[int, ...]:
        """Return the layers that a method uses."""
        usual = {"all": tuple(range(depth)), "last": (depth - 1,), "none": ()}[METHODS[method].layers]
        return (self.layers or usual) if usual else ()
