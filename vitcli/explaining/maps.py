"""One attention map: its numbers, its name in files, and its picture."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitcli.attention.registry import METHODS
from vitcli.core.runs import slug
from vitcli.explaining.explainer import Explanation
from vitcli.explaining.question import Question
from vitcli.figures.attention_style import MapPicture

_LONGEST_SLUG = 60
"""Bytes of a class in a file's name."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionMap:
    """One map of one image."""

    method: str
    target: str
    """The class that it explains; empty: the method does not depend on a class."""
    weights: NDArray[np.float32]
    """(h, w) of the patch grid."""
    prefix_share: float
    """Share of the mass that rests on class and register tokens, which no pixel shows."""
    slot: int = 0
    """The position of the class among those that were asked for."""
    slug: str = ""
    """The class as part of a file's name."""
    query: tuple[int, int] | None = None
    """The patch, (row, column), whose attention it is, instead of the pooled tokens'."""

    @property
    def label(self) -> str:
        """As part of a file's name."""
        return f"{self.method}.{self.slug}" if self.target else self.method

    @property
    def picture(self) -> MapPicture:
        """The map as the figures take it."""
        where = "" if self.query is None else " of patch {}, {}".format(*self.query)
        return MapPicture(
            method=self.method + where,
            target=self.target,
            weights=self.weights,
            is_signed=METHODS[self.method].is_signed,
            unit=METHODS[self.method].unit,
        )


def class_slugs(classes: Sequence[str]) -> list[str]:
    """Classes as parts of files' names: no two are alike, and none is too long."""
    cut = [slug(name).encode()[:_LONGEST_SLUG].decode(errors="ignore").strip("-") for name in classes]
    often = Counter(cut)
    is_plain = [
        any(letter.isalnum() for letter in name) and often[each] == 1 for name, each in zip(classes, cut, strict=True)
    ]
    return [
        each if plain else f"{each}-class-{index}"
        for index, (each, plain) in enumerate(zip(cut, is_plain, strict=True))
    ]


def maps_of(explanation: Explanation, at: int, question: Question, classes: Sequence[str]) -> Iterator[AttentionMap]:
    """The maps of one image; of classes that were asked for twice, one."""
    slugs, columns = class_slugs(classes), explanation.maps[question.methods[0]].shape[-1]
    query = None if question.query is None else divmod(question.query, columns)
    for method in question.methods:
        weights, shares = explanation.maps[method][at].cpu().numpy(), explanation.prefix_shares[method][at].tolist()
        seen: set[int] = set()
        for slot, (map_, share) in enumerate(zip(weights, shares, strict=True)):
            target = int(explanation.targets[at, slot]) if METHODS[method].chooses_class else -1
            if target not in seen:
                seen.add(target)
                yield AttentionMap(
                    method=method,
                    target=classes[target] if target >= 0 else "",
                    slot=slot,
                    weights=map_,
                    prefix_share=share,
                    slug=slugs[target] if target >= 0 else "",
                    query=query,
                )
