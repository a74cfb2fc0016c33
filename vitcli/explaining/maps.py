"""One attention map: its values, its name in files, and its picture."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

from vitcli.attention.registry import METHODS
from vitcli.attention.targets import probability_of
from vitcli.core.errors import visible
from vitcli.core.short_names import class_slugs
from vitcli.explaining.explainer import Explanation
from vitcli.explaining.question import Question
from vitcli.figures.attention_map import draw_panels
from vitcli.figures.attention_style import MapPicture, Style, Subject

_NOT_PRINTED = {"json": False}
"""Metadata of fields that ``--json`` leaves out."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AttentionMap:
    """One attention map of one image."""

    method: str
    target: str
    """The class that the map explains; empty: the method does not depend on a class."""
    probability: float | None = None
    """The probability of that class; None: the method does not depend on a class, or there is only one."""
    weights: NDArray[np.float32]
    """The weights of the patches, (h, w) of the patch grid."""
    prefix_share: float
    """The share of the mass on class and register tokens, which no pixel shows."""
    slot: int = field(default=0, metadata=_NOT_PRINTED)
    """The position of the class in the question."""
    slug: str = field(default="", metadata=_NOT_PRINTED)
    """The class as part of a file name."""
    query: tuple[int, int] | None = field(default=None, metadata=_NOT_PRINTED)
    """The patch, (row, column), whose attention the map shows; None: the attention of the pooled tokens."""
    subject: Subject | None = field(default=None, metadata=_NOT_PRINTED)
    """The image, for the picture in notebooks; None: not kept."""

    def __repr__(self) -> str:
        height, width = self.weights.shape
        return visible(f"<AttentionMap {self.picture.name}: {height} x {width} patches>")

    def _repr_png_(self) -> bytes | None:
        """Return the picture of the map; None if the image was not kept."""
        if self.subject is None:
            return None
        file, plain = BytesIO(), replace(self.picture, method=self.method)
        draw_panels(self.subject, plain, Style(), query=self.query).image().save(file, format="png")
        return file.getvalue()

    @property
    def label(self) -> str:
        """The map's name as part of a file name."""
        return f"{self.method}.{self.slug}" if self.target else self.method

    @property
    def picture(self) -> MapPicture:
        """The map in the form that the figures draw."""
        where = "" if self.query is None else " of patch {}, {}".format(*self.query)
        return MapPicture(
            method=self.method + where,
            target=self.target,
            probability=self.probability,
            weights=self.weights,
            is_signed=METHODS[self.method].is_signed,
            unit=METHODS[self.method].unit,
        )


def maps_of(explanation: Explanation, at: int, question: Question, classes: Sequence[str]) -> Iterator[AttentionMap]:
    """Yield the maps of one image; a class that is in the question twice gives one map."""
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
                    probability=probability_of(explanation.logits[at], target) if target >= 0 else None,
                    slot=slot,
                    weights=map_,
                    prefix_share=share,
                    slug=slugs[target] if target >= 0 else "",
                    query=query,
                )
