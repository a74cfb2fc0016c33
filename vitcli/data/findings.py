"""Duplicates, leaks between splits, and the balance of classes."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from vitcli.data.dataset import Dataset
from vitcli.data.inspection import ImageIndex, find_duplicates, named
from vitcli.data.raw import SplitName
from vitcli.data.splits import Plan

_NAMED = 5
"""Examples in a report."""
_SKEWED = 0.5
"""A class with this share of the images makes accuracies look better than they are,"""
_SKEWED_TIMES = 2.0
"""if that is also so many times its fair share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """Images that are in two splits."""

    splits: tuple[SplitName, SplitName]
    images: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """The number of training images of each class."""

    counts: dict[str, int]
    majority: str
    majority_share: float
    """Of all images, 0..1: what always answering this class would score."""

    @property
    def is_skewed(self) -> bool:
        """Tell whether accuracy alone would say little."""
        return self.majority_share > max(_SKEWED, _SKEWED_TIMES / len(self.counts))


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Images that are there more than once, byte for byte."""

    leaks: tuple[Leak, ...]
    """From one split to another: they flatter the model."""
    repeated: int
    """Images for training that are there once more."""
    repeats: tuple[str, ...]
    """Their names, ``first = second = ...``."""
    contradictory: tuple[str, ...]
    """Images with different labels, in whichever splits."""


def balance(dataset: Dataset, plan: Plan) -> Balance:
    """Count the training images of each class."""
    labels = dataset.labels("train")[plan["train"].indices(dataset)]
    counts = np.bincount(labels, minlength=len(dataset.facts.classes)).tolist()
    most = int(np.argmax(counts))
    return Balance(
        counts=dict(zip(dataset.facts.classes, counts, strict=True)),
        majority=dataset.facts.classes[most],
        majority_share=counts[most] / len(labels),
    )


def rare_classes(dataset: Dataset, plan: Plan) -> dict[SplitName, tuple[str, ...]]:
    """Classes of which nothing could be held out, by the split that lacks them."""
    classes, labels = dataset.facts.classes, dataset.labels("train")
    rare = {}
    for name, subset in plan.items():
        if name != "train" and subset.members is not None and subset.found == "train":
            rare[name] = tuple(classes[at] for at in np.setdiff1d(labels, labels[subset.members]))
    return {name: lacking for name, lacking in rare.items() if lacking}


def look_for_duplicates(dataset: Dataset, plan: Plan) -> Duplicates:
    """Find images that are there more than once, within training and across splits."""
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
