"""The findings about the labels of a data set: likely errors, near-duplicates, leaks between splits, and outliers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vitcli.core.files import csv_text, safe_cell, write_text
from vitcli.data.raw import SplitName
from vitcli.judging.checked_images import CheckedImages

Kind = Literal["label", "leak", "duplicate", "outlier"]
"""A likely label error; a near-duplicate in several splits; one within a split; an image unlike all others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One image that should be looked at, and the reason; a row of ``findings.csv``."""

    kind: Kind
    """A likely label error, a near-duplicate in several splits, a near-duplicate within a split, or an outlier."""
    path: str
    """The image's name: its file below the folder, or its number if the data set has no files."""
    label: str
    """The class that it has."""
    suggested: str
    """The class that the image probably has; empty if it is not about the label."""
    score: float
    """Label: probability of the suggested class or a more probable one, minus that of the label. Leak and duplicate:
    cosine similarity to the nearest image of the group. Outlier: mean cosine distance to its nearest images."""
    split: SplitName
    """The split in which ``vit train`` uses it."""
    group: int | None
    """The number of the group of near-duplicates, from 1; None: it is not about a group."""
    group_labels: Literal["", "same", "different"]
    """same: all images of the group have one label; different: they have not; empty: the finding is not about a group."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Found:
    """Indices of images among N, and their scores, by kind."""

    images: CheckedImages
    errors: NDArray[np.int64]
    suggested: NDArray[np.int64]
    scores: NDArray[np.float64]
    groups: Sequence[NDArray[np.int64]]
    similarity: NDArray[np.float32]
    """The similarity of each image to its nearest one, (N,)."""
    outliers: NDArray[np.int64]
    strangeness: NDArray[np.float64]

    def kind_of(self, group: NDArray[np.int64]) -> Kind:
        """Tell whether a group is in several splits."""
        return "leak" if len({self.images.split[at] for at in group.tolist()}) > 1 else "duplicate"

    def counts(self) -> dict[Kind, int]:
        """Count the findings of every kind."""
        kinds = Counter(map(self.kind_of, self.groups))
        return {
            "label": len(self.errors),
            "leak": kinds["leak"],
            "duplicate": kinds["duplicate"],
            "outlier": len(self.outliers),
        }

    def numbered(self) -> list[tuple[int, Kind, NDArray[np.int64]]]:
        """Number the groups: leaks first, the nearest images first."""
        ordered = sorted(self.groups, key=lambda group: self.kind_of(group) != "leak")
        return [(number, self.kind_of(group), group) for number, group in enumerate(ordered, start=1)]

    def has_one_label(self, group: NDArray[np.int64]) -> bool:
        """Tell whether all images of a group have the same label."""
        return len(np.unique(self.images.labels[group])) == 1

    def rows(self) -> tuple[Finding, ...]:
        """List the findings, one for each image and reason."""
        classes = self.images.dataset.facts.classes

        def row(at: int, kind: Kind, score: float, **facts: Any) -> Finding:
            usual = {"suggested": "", "group": None, "group_labels": ""}
            return Finding(
                kind=kind,
                path=self.images.names[at],
                label=classes[int(self.images.labels[at])],
                score=score,
                split=self.images.split[at],
                **(usual | facts),
            )

        errors = zip(self.errors.tolist(), self.scores.tolist(), self.suggested.tolist(), strict=True)
        strange = zip(self.outliers.tolist(), self.strangeness.tolist(), strict=True)
        return (
            *(row(at, "label", score, suggested=classes[suggested]) for at, score, suggested in errors),
            *(
                row(
                    at,
                    kind,
                    float(self.similarity[at]),
                    group=number,
                    group_labels="same" if self.has_one_label(group) else "different",
                )
                for number, kind, group in self.numbered()
                for at in group.tolist()
            ),
            *(row(at, "outlier", score) for at, score in strange),
        )


def write_findings(path: Path, findings: Sequence[Finding]) -> None:
    """Write a table with a row for each finding; texts that a spreadsheet would compute begin with an apostrophe."""
    lines: list[tuple[Any, ...]] = [("kind", "path", "label", "suggested", "score", "split", "group", "group_labels")]
    for row in findings:
        names = [safe_cell(name) for name in (row.path, row.label, row.suggested)]
        lines.append((row.kind, *names, f"{row.score:.6f}", row.split, row.group or "", row.group_labels))
    write_text(path, csv_text(lines))
