"""The training, validation and test splits of a run: as found on disk, or held out once for the whole run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError
from vitcli.core.provenance import typed_again
from vitcli.data.dataset import Dataset
from vitcli.data.inspection import find_duplicates
from vitcli.data.raw import Labels, SplitName, stratified_folds, stratified_split

_TEST_SEED = 0
"""Seed of the test split, which must be the same for all runs that are compared."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Subset:
    """Some images of a data set."""

    found: SplitName
    """The split on disk that contains the images."""
    members: Labels | None = None
    """Indices of the images in that split; None: all."""

    def indices(self, dataset: Dataset) -> Labels:
        """Return the indices of the images in their split on disk, (N,), also if these are all."""
        return np.arange(dataset.facts.counts[self.found]) if self.members is None else self.members


Plan = dict[SplitName, Subset]
"""The images of each split; ``train`` is always present."""


def no_such_split(dataset: Dataset, asked: str, plan: Plan) -> DataError:
    """Return the error for a split that a data set lacks, with the command for one that it has."""
    found: tuple[SplitName, ...] = ("test", "val", "train")
    other = next(name for name in found if name in plan)
    command = typed_again("--split", other, options=["--split"]) or f"--split={other}"
    return DataError(f"{dataset.facts.name} has no {asked} split", hint=f"it has {', '.join(plan)}: {command}")


def plan_splits(dataset: Dataset, config: DataConfig, *, seed: int) -> Plan:
    """Plan the splits of a data set, and hold out images for the validation and test splits that it lacks.

    The test images are always the same; the validation images depend on the seed. Copies of one image stay
    together, also in different formats.

    Raises:
        DataError: no class has enough images to hold some out; folds are requested of a data set that has a validation split, or the test split is to validate, and
            there is none.
    """
    counts, classes = dataset.facts.counts, dataset.facts.classes
    plan: Plan = {name: Subset(found=name) for name in counts}
    if "val" in counts:
        if config.val_split == "test":
            raise DataError(
                f"{dataset.facts.name} has a validation split, so test images do not validate",
                hint="leave out val_split = 'test'",
            )
        if config.folds:
            raise DataError(
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
    if config.val_split == "test":
        if "test" not in plan:
            raise DataError(f"{dataset.facts.name} has no test images to validate on", hint="--test-fraction 0.2")
        return _in_order(plan | {"train": Subset(found="train", members=rest), "val": plan["test"]})
    try:
        train, val = _validation(labels, first, rest, classes, config, seed)
    except DataError as error:
        try:
            _validation(labels, first, np.arange(len(labels)), classes, config, seed)
        except DataError:
            raise error from None
        raise DataError(
            f"after some images were held out for testing, {error.message}", hint=f"{error.hint}, or --test-fraction 0"
        ) from None
    plan |= {"train": Subset(found="train", members=rest[train]), "val": Subset(found="train", members=rest[val])}
    return _in_order(plan)


def _validation(
    labels: Labels, first: Labels, rest: Labels, classes: tuple[str, ...], config: DataConfig, seed: int
) -> tuple[Labels, Labels]:
    """Return which images of the rest train, and which validate, as indices of the rest.

    Args:
        labels: the class of each image, (N,).
        first: for each image, the index of the first identical image, (N,).
        rest: the indices of the images that are not held out for testing.
        classes: the names of the classes.
        config: the folds, or the share that validates.
        seed: the seed of the random choice.

    Raises:
        DataError: no class has enough images in the rest.
    """
    first = np.searchsorted(rest, first[rest])  # either all images of a group are in the rest, or none
    if not config.folds:
        return stratified_split(labels[rest], fraction=config.val_fraction, seed=seed, classes=classes, first=first)
    folds = stratified_folds(labels[rest], folds=config.folds, seed=seed, classes=classes, first=first)
    validates = folds == max(config.fold, 1) - 1
    return np.flatnonzero(~validates), np.flatnonzero(validates)


def _first_alike(dataset: Dataset) -> Labels:
    """Return, for every training image, the index of its first identical copy, (N,): mostly its own index.

    If no class has two different images, copies count as different images, because there are no others to hold out; a
    warning reports the leak.
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
    """Return the held-out images of a plan, for JSON: file names, or indices if there are no files."""
    return {
        "fingerprint": dataset.facts.fingerprint,
        "held_out": {
            name: dataset.names(subset.found, subset.members)
            for name, subset in plan.items()
            if name != "train" and subset.members is not None
        },
        **({"val_is_test": True} if plan["val"] is plan.get("test") else {}),
    }


def held_out_names(stored: Mapping[str, Any]) -> set[str | int]:
    """Return the names of all held-out images of a stored plan."""
    return {key for keys in stored["held_out"].values() for key in keys}


def restored_plan(stored: Mapping[str, Any], dataset: Dataset) -> Plan:
    """Restore the plan that ``stored_plan`` stored.

    Images that are new since then are used for training. A held-out split without any remaining image is left out.
    """
    plan: Plan = {name: Subset(found=name) for name in dataset.facts.counts}
    index = {name: at for at, name in enumerate(dataset.names("train"))}
    rest = np.ones(len(index), dtype=bool)
    for name, keys in stored["held_out"].items():
        members = np.array([index[key] for key in keys if key in index], dtype=np.int64)
        rest[members] = False
        if len(members):
            plan[name] = Subset(found="train", members=members)
    plan["train"] = Subset(found="train", members=np.flatnonzero(rest))
    if stored.get("val_is_test") and "test" in plan:
        plan["val"] = plan["test"]
    return _in_order(plan)
