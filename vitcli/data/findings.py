"""Duplicates, leaks between splits, and class balance."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vitcli.core.errors import counted
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
    """The two splits; train is before val, and val before test."""
    images: int
    """Number of images of the second split that are in the first one too."""
    examples: tuple[tuple[str, str], ...]
    """Some of the pairs, by the names of the images."""

    @property
    def words(self) -> str:
        """The number of images, for example ``6 images of test are in train too``."""
        verb = "is" if self.images == 1 else "are"
        return f"{counted(self.images, 'image')} of {self.splits[1]} {verb} in {self.splits[0]} too"


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
    copies: Counter[tuple[SplitName, SplitName]] = Counter()
    repeated, repeats, contradictory = 0, [], []
    for group in find_duplicates(dataset):
        within = [place for place in group if split_of.get(place) == "train"]
        if len(within) > 1:
            repeated += len(within) - 1
            repeats.append(" = ".join(named(dataset, within)))
        if len({labels[name][at] for name, at in group}) > 1:
            contradictory.append(" = ".join(named(dataset, group)))
        places: dict[SplitName, list[ImageIndex]] = defaultdict(list)
        for place in group:
            if place in split_of:
                places[split_of[place]].append(place)
        for pair in combinations(sorted(places, key=("train", "val", "test").index), 2):
            across[pair].append((places[pair[0]][0], places[pair[1]][0]))
            copies[pair] += len(places[pair[1]])
    leaks = tuple(
        Leak(
            splits=splits,
            images=copies[splits],
            examples=tuple((named(dataset, [a])[0], named(dataset, [b])[0]) for a, b in pairs[:_NAMED]),
        )
        for splits, pairs in across.items()
    )
    return Duplicates(leaks=leaks, repeated=repeated, repeats=tuple(repeats), contradictory=tuple(contradictory))
