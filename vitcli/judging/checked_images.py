"""The images of a data set whose labels are checked, and their features."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
from torch import Tensor

from vitcli.core.config import DataConfig, RunConfig
from vitcli.core.errors import DataError, ModelError
from vitcli.core.events import Emit, Warned
from vitcli.core.fingerprints import is_same_data
from vitcli.core.preprocessing import Geometry
from vitcli.data.cache import PreparedSplit
from vitcli.data.dataset import Dataset
from vitcli.data.raw import Labels, SplitName
from vitcli.data.registry import find_dataset
from vitcli.data.splits import Plan, plan_splits
from vitcli.data.store import words_of
from vitcli.data.submission import competition_folder
from vitcli.judging.frozen_probe import model_features, pixel_features
from vitcli.trained.loading import LoadedModel
from vitcli.trained.own_images import count_trained_on

SPLITS: tuple[SplitName, ...] = get_args(SplitName)
_MANY = 0.01
"""The share of the images from which a model that was trained on them is refused."""
_SMALL_PHOTO = (32, 32)
"""Pixels to which photos are reduced if no model sees them."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class CheckedImages:
    """All readable images of a data set, N of them, in the order of its splits on disk."""

    dataset: Dataset
    found: list[SplitName]
    """The split on disk of each image."""
    index: Labels
    """Its index there, (N,)."""
    names: list[str]
    labels: Labels
    split: list[SplitName]
    """The split in which ``vit train`` uses it."""

    prepared: Mapping[SplitName, PreparedSplit]
    """The pixels from which the features were computed, by split on disk."""

    def pixels(self, at: int) -> Tensor:
        """Return the pixels of an image as the model sees them, (C, H, W)."""
        return self.prepared[self.found[at]].take(self.index[at : at + 1]).pixels()[0]


def with_features(dataset: Dataset, loaded: LoadedModel | None, plan: Plan, emit: Emit) -> tuple[CheckedImages, Tensor]:
    """Prepare all images, and compute the features, (N, D), of those that can be read.

    Args:
        dataset: the data set.
        loaded: the model that computes the features; None: the pixels are the features.
        plan: the images of the splits that were not found on disk.
        emit: receives the progress.
    """
    if loaded:
        geometry = loaded.checkpoint.preprocessing.geometry
    else:
        small = Geometry(size=_SMALL_PHOTO, channels=dataset.facts.channels, resize="squash")
        geometry = dataset.facts.native_geometry or small
    counts = dataset.facts.counts
    splits = {name: dataset.split(name, geometry, emit=emit) for name in SPLITS if name in counts}
    readable = {name: split.readable() for name, split in splits.items()}
    used: dict[SplitName, list[SplitName]] = {name: [name] * counts[name] for name in splits}
    for name, subset in plan.items():
        for at in () if subset.members is None else subset.members.tolist():
            used[subset.found][at] = name
    images = CheckedImages(
        dataset=dataset,
        found=[name for name, those in readable.items() for _ in those],
        index=np.concatenate(list(readable.values())),
        names=[str(each) for name, those in readable.items() for each in dataset.names(name, those)],
        labels=np.concatenate([dataset.labels(name)[those] for name, those in readable.items()]),
        split=[used[name][at] for name, those in readable.items() for at in those.tolist()],
        prepared=splits,
    )
    every = list(splits.values())
    return images, model_features(loaded, every, emit) if loaded else pixel_features(every)


def usual_plan(dataset: Dataset, config: DataConfig) -> Plan:
    """Plan the splits as ``vit train`` does by default; empty: there are too few images to hold some out."""
    if competition_folder(dataset):
        config = replace(config, test_fraction=0.0)
    try:
        return plan_splits(dataset, config, seed=RunConfig().seed)
    except DataError:
        return {}


def refuse_trained_on(loaded: LoadedModel, dataset: Dataset, config: DataConfig, emit: Emit) -> None:
    """Refuse a model that has learnt the labels that it is to judge, wrong ones included."""
    provenance = loaded.checkpoint.provenance
    if not provenance.get("data") or not loaded.checkpoint.classes:  # not trained by vit, or without labels
        return
    own, name = loaded.data.name, config.name
    is_same = is_same_data(provenance.get("fingerprint"), dataset.facts.fingerprint) or own == name
    if not is_same and not find_dataset(own) and not find_dataset(name):
        is_same = Path(own).is_relative_to(name) or Path(name).is_relative_to(own)
    seen, total = 0 if is_same else count_trained_on(loaded, dataset, emit), sum(dataset.facts.counts.values())
    which = f"{seen:,} of the {total:,} images" if seen else "images"
    if 0 < seen < _MANY * total:
        emit(Warned(text=f"{loaded.name} was trained on {which} of {dataset.facts.name}, whose labels it cannot judge"))
    elif is_same or seen:
        others = "--model takes weights of other data too; `vit download` lists some"
        folds = shlex.join(["vit", "train", *words_of(config), "--folds", "5", "--name", "crossed"])
        crossed = f"`{folds}`, then --model crossed; {others}"
        raise ModelError(
            f"{loaded.name} was trained on {which} of {dataset.facts.name}, so it has learnt their labels, wrong ones too",
            hint=others if "val" in dataset.facts.counts else crossed,
        )
