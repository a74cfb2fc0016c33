"""Duplicates, leaks between splits, and class balance."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from vitcli.data.dataset import Dataset
from vitcli.data.inspection import ImageIndex, find_duplicates, named
from vitcli.data.raw import SplitName
from vitcli.data.splits import Plan

_NAMED = 5
"""The most examples in a report."""
_SKEWED = 0.5
"""Share of the images above which a single class makes accuracy misleading."""
_SKEWED_TIMES = 2.0
"""The same limit as a multiple of 1 / number of classes; the larger of the two limits counts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """Images that are in two splits."""

    splits: tuple[SplitName, SplitName]
    """The two splits."""
    images: int
    examples: tuple[tuple[str, str], ...]
    """Some of the pairs, by the names of the images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """The number of training images of each class."""

    counts: dict[str, int]
    """Number of images by class."""
    majority: str
    """The class with the most images."""
    majority_share: float
    """Share of all images, 0..1: the accuracy of a model that always predicts this class."""

    @property
    def is_skewed(self) -> bool:
        """Tell whether one class is so frequent that accuracy alone would be misleading."""
        return self.majority_share > max(_SKEWED, _SKEWED_TIMES / len(self.counts))


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Images that occur more than once."""

    leaks: tuple[Leak, ...]
    """Images that are in two splits; they make scores look too good."""
    repeated: int
    """Number of extra copies among the training images."""
    repeats: tuple[str, ...]
    """Names of equal training images, one entry per group: ``first = second = ...``."""
    contradictory: tuple[str, ...]
    """Names of equal images with different labels, in any splits: ``first = second = ...``."""


def balance(dataset: Dataset, plan: Plan) -> Balance:
    """Count the training images of each class."""
    labels = dataset.labels("train")[plan["train"].indices(dataset)]
    counts = np.bincount(labels, minlength=len(dataset.facts.classes)).tolist()
    most = int(np.argmax(counts))
    return Balance(
        counts=dict(zip(dataset.facts.classes, counts, strict=True)),
        majority=dataset.facts.classes[most],
        majority_share=counts[most] / max(len(labels), 1),
    )


def rare_classes(dataset: Dataset, plan: Plan) -> dict[SplitName, tuple[str, ...]]:
    """Return the classes of which a part of a split on disk, held out or readable, has no image, by that part."""
    rare = {}
    for name, subset in plan.items():
        if name != "train" and subset.members is not None:
            labels = dataset.labels(subset.found)
            lacking = np.setdiff1d(labels, labels[subset.members])
            rare[name] = tuple(dataset.facts.classes[at] for at in lacking)
    return {name: lacking for name, lacking in rare.items() if lacking}


def look_for_duplicates(dataset: Dataset, plan: Plan) -> Duplicates:
    """Find images that occur more than once, within the training images and across splits."""
    split_of: dict[ImageIndex, SplitName] = {
        (subset.found, at): name for name, subset in plan.items() for at in subset.indices(dataset).tolist()
    }
    labels = {name: dataset.labels(name) for name in dataset.facts.counts}
    across: dict[tuple[SplitName, SplitName], list[tuple[ImageIndex, ImageIndex]]] = defaultdict(list)
    repeated, repeats, contradictory = 0, [], []
    for group in find_duplicates(dataset):
        within = [place for place in group if split_of.get(place) == "train"]
        if len(within) > 1:
            repeated += len(within) - 1
            repeats.append(" = ".join(named(dataset, within)))
        if len({labels[name][at] for name, at in group}) > 1:
            contradictory.append(" = ".join(named(dataset, group)))
        first: dict[SplitName, ImageIndex] = {}
        for place in group:
            if place in split_of:
                first.setdefault(split_of[place], place)
        names = sorted(first, key=("train", "val", "test").index)
        for at, one in enumerate(names):
            for other in names[at + 1 :]:
                across[one, other].append((first[one], first[other]))
    leaks = tuple(
        Leak(
            splits=splits,
            images=len(pairs),
            examples=tuple((named(dataset, [a])[0], named(dataset, [b])[0]) for a, b in pairs[:_NAMED]),
        )
        for splits, pairs in across.items()
    )
    return Duplicates(leaks=leaks, repeated=repeated, repeats=tuple(repeats), contradictory=tuple(contradictory))
