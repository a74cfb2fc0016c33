"""A user's request for maps, and its conversion to the ``Question`` for a model."""

import re
from dataclasses import dataclass, field, replace
from math import ceil

from vitcli.attention.evidence import Options
from vitcli.attention.registry import DEFAULT_METHOD, DEFAULT_WITHOUT_CLASSES, METHODS, parse_methods
from vitcli.attention.targets import TargetScore, parse_classes
from vitcli.core.errors import ModelError, UsageError
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.preprocessing import Size
from vitcli.data.preprocess import crop_box
from vitcli.explaining.question import Question
from vitcli.trained.loading import LoadedModel

_STEPS = 16
"""The usual number of steps of ``ig``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """A request for maps, in a user's words."""

    methods: tuple[str, ...] = ()
    """Method names, or ``all``; empty: the default method, or all methods if they are compared."""
    classes: tuple[str, ...] = ()
    """``pred``, ``topN``, names or indices; empty: the predicted class."""
    score: TargetScore = "logit"
    layers: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()
    options: Options = field(default_factory=Options)
    query: str = ""
    """A patch as ``ROW,COLUMN``, or a pixel of the picture as ``X,Ypx``."""
    steps: int = _STEPS

    def question(
        self, loaded: LoadedModel, emit: Emit, *, compares: bool = False, all_layers: bool = False
    ) -> Question:
        """Convert the request to a checked question for a model.

        Raises:
            UsageError, ModelError: the request does not suit the model.
        """
        names = self.methods or (("all",) if compares else ())
        methods = parse_methods(names) or (self._usual(loaded, emit),)
        if not self.methods and (self.query or not loaded.checkpoint.model.num_classes):
            methods = tuple(name for name in methods if not METHODS[name].chooses_class)
        if compares:
            methods = (*(name for name in methods if name != "random"), "random")
        choices = parse_classes(self.classes or ("pred",), loaded.checkpoint.classes) if self.classes else ()
        deaf = [name for name in methods if not METHODS[name].chooses_class and name != "random"]
        if self.classes and deaf:
            emit(Warned(text=f"{', '.join(deaf)}: the same map for every class, because only attention is read"))
        self._tell_no_effect(methods, emit)
        question = Question(
            methods=methods,
            score=self.score,
            layers=self.layers,
            heads=self.heads,
            options=self.options,
            steps=self.steps,
            query=0 if self.query else None,
            watches_all=all_layers,
        )
        return (replace(question, choices=tuple(choices)) if choices else question).checked(loaded.model)

    def _tell_no_effect(self, methods: tuple[str, ...], emit: Emit) -> None:
        """Warn about options that have no effect on the chosen methods."""
        of_no_heads = [name for name in methods if not METHODS[name].looks_at_layers]
        for option, chosen, without in (
            ("--layers", self.layers, [name for name in methods if METHODS[name].layers == "none"]),
            ("--discard", self.options.discard > 0, [] if "rollout" in methods else methods),
            ("--mass", self.options.mass < 1, [] if "raw" in methods else methods),
            ("--heads", self.heads, of_no_heads),
            ("--head-fusion", self.options.fusion != "mean", of_no_heads),
            ("--steps", self.steps != _STEPS, [] if "ig" in methods else methods),
            ("--target", self.score != "logit", [name for name in methods if not METHODS[name].chooses_class]),
        ):
            if told := [name for name in without if chosen and name != "random"]:
                emit(Warned(text=f"{option} has no effect on {', '.join(told)}"))

    def _usual(self, loaded: LoadedModel, emit: Emit) -> str:
        if self.query:
            return "raw"
        if loaded.checkpoint.model.num_classes:
            return DEFAULT_METHOD
        emit(Note(text=f"the model has no classifier, so the method is {DEFAULT_WITHOUT_CLASSES}"))
        return DEFAULT_WITHOUT_CLASSES


def patch_at(query: str, size: Size, loaded: LoadedModel, *, name: str) -> tuple[int, int]:
    """Find the patch, (row, column), for ``ROW,COLUMN``, or for the pixel ``X,Ypx`` of a picture of a given size.

    Raises:
        UsageError: the text has neither form.
        ModelError: the patch does not exist.
    """
    rows, columns = loaded.checkpoint.model.grid
    match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*(px)?\s*", query)
    if match is None:
        raise UsageError(f"--query {query!r} is not a patch", hint="--query ROW,COLUMN, or --query X,Ypx for a pixel")
    first, second = int(match[1]), int(match[2])
    if not match[3]:
        if first >= rows or second >= columns:
            raise ModelError(f"there is no patch in row {first}, column {second}", hint=f"there are {rows} x {columns}")
        return first, second
    left, top, right, bottom = crop_box(size, loaded.checkpoint.preprocessing.geometry)
    if not (left <= first < right and top <= second < bottom):
        raise ModelError(
            f"the model does not see the pixel {first},{second} of {name}",
            hint=f"it sees columns {ceil(left)} to {ceil(right) - 1} and rows {ceil(top)} to {ceil(bottom) - 1}",
        )
    row, column = (second - top) / (bottom - top) * rows, (first - left) / (right - left) * columns
    return min(int(row), rows - 1), min(int(column), columns - 1)
