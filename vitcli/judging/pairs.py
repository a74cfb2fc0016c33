"""Two stored evaluations, matched by the names of the images, and the images that changed sides between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vitcli.core.errors import counted
from vitcli.core.files import csv_text, write_text
from vitcli.core.words import averaged, evaluation_in_words, percent
from vitcli.judging.comparison import Comparison, compare_answers
from vitcli.judging.intervals import ERROR
from vitcli.judging.tables import StoredAnswer


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangedImage:
    """An image that one of two runs predicts correctly, and the other one does not."""

    path: str
    """The name of the image: its file below the folder, or its index."""
    truth: str
    """The true class."""
    first: str
    """The prediction of the first run."""
    second: str
    """The prediction of the second run."""
    change: Literal["gained", "lost"]
    """gained: only the second run is right; lost: only the first one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """The answers of a run, compared with those of the first run."""

    first: str
    """The name of the first run."""
    second: str
    """The name of the other run."""
    evaluations: tuple[str, str] = ("", "")
    """The evaluations that are compared, which may have other names although the images are the same."""
    models: tuple[int, int] = (1, 1)
    """The number of models of each whose probabilities are averaged; 1: a single model."""
    only_in_first: int
    """Images that only the first run was evaluated on; they are left out, as the next two."""
    only_in_second: int
    """Images that only the second run was evaluated on."""
    labelled_differently: int
    """Images that had another label when the second run was evaluated."""
    comparison: Comparison
    """The comparison on the other images, which both were evaluated on."""
    changed: tuple[ChangedImage, ...]
    """The images that changed sides."""

    @property
    def headings(self) -> tuple[str, ...]:
        """The titles of the columns of ``rows``."""
        return "metric", self.first, self.second, "change", "95 % interval"

    def verdict(self) -> str:
        """Say which run is more accurate, and by how much, or that chance may explain the difference."""
        result, accuracy = self.comparison, self.comparison.differences[0]
        images = counted(result.images, "image")
        if not accuracy.difference:
            return f"{self.first} and {self.second} are equally accurate on {images}"
        better, sign = (self.second, 1) if accuracy.difference > 0 else (self.first, -1)
        ends = sorted(100 * sign * end for end in accuracy.interval or ())
        points = f"{100 * abs(accuracy.difference):+.1f} points" + (f" [{ends[0]:.1f}, {ends[1]:.1f}]" if ends else "")
        if result.p_value < ERROR:
            return f"{better} is better: {points} on {images}"
        return f"chance may explain the difference: {points} for {better} on {images}"

    def rows(self) -> list[tuple[str, ...]]:
        """Format the differences: metric, value of each run, change (percentage points, or nats) and 95 % interval."""
        rows = []
        for each in self.comparison.differences:
            is_loss = each.metric == "loss"
            values = [f"{value:.4f}" if is_loss else percent(value) for value in (each.first, each.second)]
            change, *ends = (
                f"{value:+.4f}" if is_loss else f"{100 * value:+.2f}"
                for value in (each.difference, *(each.interval or ()))
            )
            rows.append((each.metric.removesuffix(" accuracy"), *values, change, " to ".join(ends) or "-"))
        return rows

    def in_words(self) -> dict[str, str]:
        """Say which run is better, how many images changed sides, and whether by more than chance."""
        result, names = self.comparison, (self.first, self.second)
        differ = "so the accuracies differ" if result.p_value < ERROR else "so chance may explain the difference"
        images = [f"{evaluation_in_words(each)} of {name}" for each, name in zip(self.evaluations, names, strict=True)]
        models = [
            f"{name}: {averaged(count) or 'a single model'}" for name, count in zip(names, self.models, strict=True)
        ]
        return {
            "verdict": self.verdict(),
            **({"images": ", ".join(images)} if self.evaluations[0] != self.evaluations[1] else {}),
            **({"models": "; ".join(models)} if self.models != (1, 1) else {}),
            "changed sides": f"{result.only_second:,} right only in {self.second}, {result.only_first:,} only in {self.first}",
            "same side": f"{result.both_right:,} right in both, {result.both_wrong:,} wrong in both",
            "McNemar's test": f"p = {result.p_value:.3g}, {differ}",
        }

    def missing(self) -> str:
        """Say why differences have no interval; empty: all have one."""
        without = [each.metric for each in self.comparison.differences if not each.interval]
        return f"no interval of {', '.join(without)}: drawing the images again changes no difference" if without else ""


def matched(
    names: tuple[str, str], answers: tuple[Mapping[str, StoredAnswer], Mapping[str, StoredAnswer]]
) -> Pair | None:
    """Compare two tables of predictions on the images that both have with the same label; None: there are none.

    Args:
        names: the names of both runs.
        answers: their answers by the name of the image.
    """
    shared = [name for name in answers[0] if name in answers[1]]
    alike = [name for name in shared if answers[0][name].truth == answers[1][name].truth]
    if not alike:
        return None
    rows = [[each[name] for name in alike] for each in answers]
    texts = {text for row in rows for each in row for text in (each.truth, each.prediction)}
    classes = {name: at for at, name in enumerate(sorted(texts))}
    truth = np.array([classes[each.truth] for each in rows[0]])
    given, further = (np.array([classes[each.prediction] for each in row]) for row in rows)
    before, after = (np.array([each.loss for each in row]) for row in rows)
    return Pair(
        first=names[0],
        second=names[1],
        only_in_first=len(answers[0]) - len(shared),
        only_in_second=len(answers[1]) - len(shared),
        labelled_differently=len(shared) - len(alike),
        comparison=compare_answers(truth, (given, further), (before, after)),
        changed=tuple(
            ChangedImage(
                path=name,
                truth=one.truth,
                first=one.prediction,
                second=other.prediction,
                change="gained" if other.prediction == other.truth else "lost",
            )
            for name, one, other in zip(alike, *rows, strict=True)
            if (one.prediction == one.truth) != (other.prediction == other.truth)
        ),
    )


def write_changed(path: Path, pairs: Sequence[Pair]) -> None:
    """Write a row for each image that changed sides; the texts are those of the tables of predictions."""
    heading = "first", "second", "path", "truth", "first_prediction", "second_prediction", "change"
    rows = [
        (pair.first, pair.second, each.path, each.truth, each.first, each.second, each.change)
        for pair in pairs
        for each in pair.changed
    ]
    write_text(path, csv_text([heading, *rows]))
