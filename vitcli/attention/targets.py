"""The target of a map: the classes to explain, and the kind of score."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vitcli.core.errors import ModelError, did_you_mean, some

TargetScore = Literal["logit", "contrast"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassChoice:
    """A choice of one class: by its index, or by its rank in each image's prediction, from 0."""

    index: int | None = None
    rank: int = 0


def parse_classes(asked: Sequence[str], classes: Sequence[str]) -> list[ClassChoice]:
    """Parse classes given by name, by index, as ``pred`` or as ``topN``; several can have commas between them.

    Names are tried before indices, so that classes named 0 to 9 are found by name, and before commas, which names can
    have.

    Raises:
        ModelError: a class does not exist.
    """
    choices: dict[ClassChoice, None] = {}
    for text in asked:
        is_name = any(text.strip().casefold() == name.casefold() for name in classes)
        parts = [] if is_name else [part for part in text.split(",") if part.strip()]
        for part in parts or [text]:
            choices |= dict.fromkeys(_parse(part.strip(), classes))
    return list(choices)


def _parse(text: str, classes: Sequence[str]) -> list[ClassChoice]:
    if text in classes:
        return [ClassChoice(index=classes.index(text))]
    if text == "pred":
        return [ClassChoice()]
    if (top := re.fullmatch(r"top([1-9]\d*)", text)) is not None:
        return [ClassChoice(rank=rank) for rank in range(min(int(top[1]), len(classes)))]
    if text.isdecimal() and int(text) < len(classes):
        return [ClassChoice(index=int(text))]
    alike = [index for index, name in enumerate(classes) if text.casefold() in _names(name)]
    if len(alike) == 1:
        return [ClassChoice(index=alike[0])]
    if not classes:
        raise ModelError("the model has no classifier, so there is no class to ask about", hint="leave --class out")
    known = f"expected: pred, top3, an index below {len(classes)}, or one of {some(classes, 8)}"
    raise ModelError(
        f"the model has no class {text!r}",
        hint=did_you_mean("" if text.isdecimal() else text, classes, otherwise=known),
    )


def _names(name: str) -> list[str]:
    """List the names of a class: ImageNet's classes have several, separated by commas."""
    return [name.casefold(), *(part.strip().casefold() for part in name.split(","))]


def class_indices(choices: Sequence[ClassChoice], logits: Tensor) -> Tensor:
    """Return the index of each chosen class for each image: logits (B, K) -> (B, T), on the same device."""
    order = logits.argsort(dim=1, descending=True, stable=True)
    columns = [
        order[:, choice.rank] if choice.index is None else torch.full_like(order[:, 0], choice.index)
        for choice in choices
    ]
    return torch.stack(columns, dim=1)


def class_scores(logits: Tensor, indices: Tensor, score: TargetScore) -> Tensor:
    """Compute the score y of one class per image, logits (B, K) and indices (B,) -> (B,).

    ``logit`` is the logit itself. ``contrast`` is the log-odds of the class: its logit minus the log-sum-exp of all
    others, which rates the class against the others.
    """
    own = logits.gather(1, indices[:, None])[:, 0]
    if score == "logit":
        return own
    others = logits.scatter(1, indices[:, None], -torch.inf)
    return own - others.logsumexp(dim=1)


def probability_of(logits: Tensor, index: int) -> float | None:
    """Compute the probability of a class from the logits of an image, (K,); None: a single class has none."""
    return float(logits.softmax(dim=0)[index]) if len(logits) > 1 else None
