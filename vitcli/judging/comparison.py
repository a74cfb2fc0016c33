"""Comparison of two classifiers on the same images: paired differences with intervals, and McNemar's exact test.

Sources: Efron and Tibshirani (1993), An introduction to the bootstrap; McNemar (1947), Note on the sampling error of the
difference between correlated proportions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitcli.judging.counts import ClassCounts, summary
from vitcli.judging.intervals import ERROR, Interval, percentiles

_DRAWS, _MOST_CELLS = 1000, 4_000_000
"""Draws of the bootstrap, and the number of cells that are drawn at once."""
_COMPARED = {"top1": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A metric of two classifiers on the same images."""

    metric: str
    """Its name: accuracy, balanced accuracy, macro F1 or loss."""
    first: float
    """Its value for the first one."""
    second: float
    """Its value for the second one."""
    difference: float
    """The second minus the first."""
    interval: Interval | None
    """Its 95 % interval; None: the images do not differ in it, so the bootstrap has no spread."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Two classifiers on the same images: differences of metrics, and how many images changed sides."""

    images: int
    both_right: int
    """Images that both classifiers predict correctly."""
    only_first: int
    """Images that only the first classifier predicts correctly."""
    only_second: int
    """Images that only the second classifier predicts correctly."""
    both_wrong: int
    """Images that neither predicts correctly."""
    p_value: float
    """McNemar's exact test, two-sided: the probability of a split at least as uneven between ``only_first`` and
    ``only_second`` if both classifiers were equally accurate."""
    differences: tuple[Difference, ...]
    """The difference of each metric."""


def compare_answers(
    truth: Ints, predicted: tuple[Ints, Ints], loss: tuple[Floats, Floats], *, seed: int = 0
) -> Comparison:
    """Compare the answers of two classifiers to the same images, at least one.

    The bootstrap draws images with replacement, each with both answers (percentile intervals of 1,000 draws). If all
    images change sides in the same way, or none does, it has no spread: the interval of the accuracy then follows from
    the exact binomial bound of the share of images that change sides (Clopper and Pearson, 1934).

    Args:
        truth: true classes, (N,).
        predicted: predicted classes of both, (N,) each.
        loss: the loss of each image for both, (N,) each.
        seed: the seed of the draws.
    """
    random = np.random.default_rng(seed)
    images = len(truth)
    rights = [each == truth for each in predicted]
    only_first, only_second = int((rights[0] & ~rights[1]).sum()), int((rights[1] & ~rights[0]).sum())
    both_right = int((rights[0] & rights[1]).sum())

    # Metrics of classes depend on how many images have each true class with each pair of answers
    cells, counts = np.unique(np.stack([truth, *predicted]), axis=1, return_counts=True)  # (3, cells)
    values = [{name: float(each[0]) for name, each in scores.items()} for scores in _scores(cells, counts[None])]
    drawn: dict[str, list[Floats]] = {name: [] for name in _COMPARED}
    at_once = max(1, _MOST_CELLS // max(len(counts), int(cells.max()) + 1))
    for start in range(0, _DRAWS, at_once):
        many = min(at_once, _DRAWS - start)
        first, second = _scores(cells, random.multinomial(images, counts / images, size=many))
        for name, parts in drawn.items():
            parts.append(second[name] - first[name])
    spread = {name: _spread(np.concatenate(parts)) for name, parts in drawn.items()}
    spread["top1"] = _exact(only_first, only_second, images) or spread["top1"]
    differences = [
        Difference(
            metric=words,
            first=values[0][name],
            second=values[1][name],
            difference=values[1][name] - values[0][name],
            interval=spread[name],
        )
        for name, words in _COMPARED.items()
    ]

    change = loss[1] - loss[0]
    differences.append(
        Difference(
            metric="loss",
            first=float(loss[0].mean()),
            second=float(loss[1].mean()),
            difference=float(change.mean()),
            interval=percentiles(np.concatenate([*_drawn_means(change, random)])) if np.ptp(change) else None,
        )
    )
    return Comparison(
        images=images,
        both_right=both_right,
        only_first=only_first,
        only_second=only_second,
        both_wrong=images - both_right - only_first - only_second,
        p_value=mcnemar(only_first, only_second),
        differences=tuple(differences),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Compute the p-value of McNemar's exact test: a two-sided binomial test of the images that changed sides."""
    changed, fewer = only_first + only_second, min(only_first, only_second)
    ways = total = 1  # in whole numbers, which are exact
    for taken in range(fewer):
        ways = ways * (changed - taken) // (taken + 1)
        total += ways
    return float(min(1.0, 2 * total / 2**changed))


def _scores(cells: Ints, counts: Ints) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Compute the metrics of both classifiers, (draws,) each.

    Args:
        cells: true class, prediction of the first and of the second, (3, cells).
        counts: images in each cell, (draws, cells).
    """
    classes = int(cells.max()) + 1

    def by_class(of: Ints, numbers: Ints) -> Ints:
        table = np.zeros((len(numbers), classes), dtype=np.int64)
        order = np.argsort(of, kind="stable")
        present, starts = np.unique(of[order], return_index=True)
        if len(present):
            table[:, present] = np.add.reduceat(numbers[:, order], starts, axis=1)
        return table

    truth, support = cells[0], by_class(cells[0], counts)
    first, second = (
        summary(
            ClassCounts(
                support=support,
                predicted=by_class(given, counts),
                correct=by_class(truth[given == truth], counts[:, given == truth]),
            ),
            without_images=np.isin(np.arange(classes), np.setdiff1d(given, truth)),
        )
        for given in cells[1:]
    )
    return first, second


def _drawn_means(values: Floats, random: np.random.Generator) -> Iterator[Floats]:
    """Draw the values again with replacement, and yield means of these, some at a time."""
    at_once = max(1, _MOST_CELLS // len(values))
    for start in range(0, _DRAWS, at_once):
        many = min(at_once, _DRAWS - start)
        yield values[random.integers(len(values), size=(many, len(values)))].mean(axis=1)


def _spread(values: Floats) -> Interval | None:
    return percentiles(values) if np.ptp(values) else None


def _exact(only_first: int, only_second: int, images: int) -> Interval | None:
    """Return the interval of the difference of accuracies if the bootstrap has no spread, else None."""
    reached = (ERROR / 2) ** (1 / images)
    if not only_first + only_second:
        return reached - 1, 1 - reached
    if only_second == images:
        return reached, 1.0
    return (-1.0, -reached) if only_first == images else None
