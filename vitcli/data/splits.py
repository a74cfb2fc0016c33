"""Split a data set into images that train, validate and test: as found on disk, or held out; once for all of a run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from vitcli.core.config import DataConfig
from vitcli.core.errors import UsageError
from vitcli.data.dataset import Dataset
from vitcli.data.inspection import find_duplicates
from vitcli.data.raw import Labels, SplitName, stratified_folds, stratified_split

_TEST_SEED = 0
"""Of the test split, which must be the same for every run that is compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subset:
    """Some images of a data set."""

    found: SplitName
    """The split on disk that they are in."""
    members: Labels | None = None
    """Their indices there; None: all."""

    def indices(self, dataset: Dataset) -> Labels:
        """Their indices there, (N,), in any case."""
        return np.arange(dataset.facts.counts[self.found]) if self.members is None else self.members


Plan = dict[SplitName, Subset]
"""``train`` is always there."""


def plan_splits(dataset: Dataset, config: DataConfig, *, seed: int) -> Plan:
    """Hold out what is not there: images for testing, always the same, and images for validation, by the seed.

    Images that are the same, byte for byte, are never torn apart.

    Raises:
        DataError: no class has enough images for it.
        UsageError: folds of a data set that has a validation split.
    """
    counts, classes = dataset.facts.counts, dataset.facts.classes
    plan: Plan = {name: Subset(found=name) for name in counts}
    if "val" in counts:
        if config.folds:
            raise UsageError(
                f"{dataset.facts.name} has a validation split, so it is not cut into folds",
                hint="leave out --folds, or move the validation images to those for training",
            )
        return _in_order(plan)
    labels, first = dataset.labels("train"), _first_alike(dataset)
    rest = np.arange(len(labels))
    if set(counts) == {"train"} and config.test_fraction:
        rest, test = stratified_split(
            labels, fraction=config.test_fraction, seed=_TEST_SEED, classes=classes, first=first
        )
        plan["test"] = Subset(found="train", members=test)
    first = np.searchsorted(rest, first[rest])  # all of a group are in the rest, or none
    if config.folds:
        folds = stratified_folds(labels[rest], folds=config.folds, seed=seed, classes=classes, first=first)
        validates = folds == max(config.fold, 1) - 1
        train, val = np.flatnonzero(~validates), np.flatnonzero(validates)
    else:
        train, val = stratified_split(
            labels[rest], fraction=config.val_fraction, seed=seed, classes=classes, first=first
        )
    plan |= {"train": Subset(found="train", members=rest[train]), "val": Subset(found="train", members=rest[val])}
    return _in_order(plan)


def _first_alike(dataset: Dataset) -> Labels:
    """Find for every training image the first one that is the same, byte for byte, (N,): mostly itself.

    Where no class has two different images, copies are all that there is to be held out; the leak is warned about.
    """
    labels = dataset.labels("train")
    itself = np.arange(len(labels))
    first = itself.copy()
    for group in find_duplicates(dataset):
        same = [at for name, at in group if name == "train"]
        first[same] = min(same, default=0)
    return first if np.bincount(labels[first == itself]).max() > 1 else itself


def _in_order(plan: Plan) -> Plan:
    order: tuple[SplitName, ...] = get_args(SplitName)
    return {name: plan[name] for name in order if name in plan}


def stored_plan(plan: Plan, dataset: Dataset) -> dict[str, Any]:
    """List what was held out, for JSON: file names, or indices where there are no files."""
    return {
        "fingerprint": dataset.facts.fingerprint,
        "held_out": {
            name: dataset.names(subset.found, subset.members)
            for name, subset in plan.items()
            if name != "train" and subset.members is not None
        },
    }


def held_out_names(stored: Mapping[str, Any]) -> set[str | int]:
    """Read what ``stored_plan`` kept of all splits."""
    return {key for keys in stored["held_out"].values() for key in keys}


def restored_plan(stored: Mapping[str, Any], dataset: Dataset) -> Plan:
    """The plan that ``stored_plan`` kept: images that are new since then train; a split that has lost all is gone."""
    plan: Plan = {name: Subset(found=name) for name in dataset.facts.counts}
    index = {name: at for at, name in enumerate(dataset.names("train"))}
    rest = np.ones(len(index), dtype=bool)
    for name, keys in stored["held_out"].items():
        members = np.array([index[key] for key in keys if key in index], dtype=np.int64)
        rest[members] = False
        if len(members):
            plan[name] = Subset(found="train", members=members)
    plan["train"] = Subset(found="train", members=np.flatnonzero(rest))
    return _in_order(plan)
