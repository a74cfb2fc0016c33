"""A question about a model, in numbers: which maps are wanted."""

from dataclasses import dataclass, field, replace

from vitcli.attention.evidence import Options
from vitcli.attention.registry import METHODS, MethodEntry
from vitcli.attention.targets import ClassChoice, TargetScore
from vitcli.core.errors import ModelError, UsageError
from vitcli.models.capture import checked_index
from vitcli.models.vit import VisionTransformer


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """The maps that are wanted."""

    methods: tuple[str, ...]
    choices: tuple[ClassChoice, ...] = (ClassChoice(),)
    """The classes; methods that know of none answer once."""
    score: TargetScore = "logit"
    layers: tuple[int, ...] = ()
    """From 0, negative ones from the end; none: those that the method is made for."""
    heads: tuple[int, ...] = ()
    """Likewise; none: all."""
    query: int | None = None
    """A patch: what it looks at, instead of what the pooled tokens look at."""
    steps: int = 16
    """Of integrated gradients."""
    options: Options = field(default_factory=Options)
    watches_all: bool = False
    """Whether the attention of all layers that were asked for is kept, though no method may want it."""

    def checked(self, model: VisionTransformer) -> "Question":
        """The same with indices from 0, sorted.

        Raises:
            UsageError: a method, layer, head or patch that does not exist, or one that does not go with the rest.
            ModelError: a class is asked of a model that knows none.
        """
        config = model.config
        for name in self.methods:
            self._check_method(name, METHODS[name], has_classes=config.num_classes > 0)
        if self.score == "contrast" and config.num_classes == 1:
            raise UsageError("contrast needs a second class, and this model knows one", hint="--target logit")
        if self.query is not None:
            checked_index(self.query, config.grid[0] * config.grid[1], "patch")
        if self.steps < 1:
            raise UsageError(f"steps = {self.steps} is not positive")
        if not 0 <= self.options.discard < 1:
            raise UsageError(f"discard = {self.options.discard:g} is not in [0, 1)")
        if not 0 < self.options.mass <= 1:
            raise UsageError(f"mass = {self.options.mass:g} is not in (0, 1]")
        return replace(
            self,
            layers=tuple(sorted({checked_index(layer, config.depth, "layer") for layer in self.layers})),
            heads=tuple(sorted({checked_index(head, config.num_heads, "head") for head in self.heads})),
        )

    def _check_method(self, name: str, entry: MethodEntry, *, has_classes: bool) -> None:
        if entry.chooses_class and not has_classes:
            raise ModelError(f"the model has no classifier, and {name} explains classes", hint="--method rollout")
        if entry.chooses_class and self.query is not None:
            raise UsageError(
                f"{name} explains the class that is predicted, not what a patch looks at", hint="--method raw"
            )

    def layers_of(self, method: str, depth: int) -> tuple[int, ...]:
        """The layers that a method is to use."""
        usual = {"all": tuple(range(depth)), "last": (depth - 1,), "none": ()}[METHODS[method].layers]
        return (self.layers or usual) if usual else ()
