"""The images that a trained model is judged on, or explained with: a split of its own data, or of other data."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, UsageError
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.preprocessing import Geometry
from vitcli.data.cache import PreparedSplit
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.raw import SplitName
from vitcli.data.registry import canonical_name, full_name
from vitcli.data.splits import Plan, Subset, held_out_names, plan_splits, restored_plan
from vitcli.data.store import data_dir
from vitcli.trained.loading import LoadedModel

AskedSplit = Literal["auto", "train", "val", "test"]
"""auto: the test split, else the validation split."""


@dataclass(frozen=True, kw_only=True)
class JudgedImages:
    """A split of a data set."""

    dataset: Dataset
    split: SplitName
    subset: Subset
    is_own: bool
    """Whether it is of the data set that the model was trained on."""

    def prepared(self, geometry: Geometry, emit: Emit) -> PreparedSplit:
        """All of its images and labels."""
        return self.dataset.split(self.subset.found, geometry, members=self.subset.members, emit=emit)


def choose_images(
    loaded: LoadedModel,
    *,
    dataset: str,
    split: AskedSplit,
    directory: str,
    offline: bool,
    hint: str,
    table: Mapping[str, str] | None = None,
    emit: Emit,
) -> JudgedImages:
    """Open a data set, and take a split of it; the data that the model was trained on are known wherever they are.

    Args:
        loaded: the model.
        dataset: a data set or folder; empty: the one that the model was trained on.
        split: which one.
        directory: where data sets are kept; empty: as in training.
        offline: fetch nothing.
        hint: what to type where it is not known what the model was trained on.
        table: how a table of labels is read, if not as in training: settings of DataConfig.
        emit: told about the progress.

    Raises:
        DataError: the data set has no such split.
        UsageError: it is not known what the model was trained on.
    """
    if not dataset and not loaded.checkpoint.provenance.get("data"):  # absent for weights from elsewhere
        raise UsageError(f"{loaded.name} comes from elsewhere, so its data set is not known", hint=hint)
    before, dataset = loaded.data, full_name(dataset)
    is_own = not dataset or canonical_name(dataset) == before.name
    asked: Mapping[str, Any] = table or {}
    config = replace(before if is_own else _elsewhere(dataset, before), **asked)
    kept_in = before.dir if Path(before.dir).is_dir() else ""  # the model may come from elsewhere
    opened = open_dataset(config, directory=data_dir(directory or kept_in), offline=offline, emit=emit)
    if not is_own and opened.facts.fingerprint == loaded.checkpoint.provenance.get("fingerprint"):
        emit(Note(text=f"{opened.facts.name} has the same images and labels as what {loaded.name} was trained on"))
        is_own = True
    plan = _plan(opened, before, loaded, emit) if is_own else {name: Subset(found=name) for name in opened.facts.counts}
    chosen = _choose_split(opened, plan, split, same_data=is_own, emit=emit)
    return JudgedImages(dataset=opened, split=chosen, subset=plan[chosen], is_own=is_own)


def _elsewhere(name: str, before: DataConfig) -> DataConfig:
    """Another data set than the model's, or the same in another place: read the same way."""
    old, new = Path(before.name), Path(name).expanduser()
    labels, label_map = (_moved(Path(file), old, new) for file in (before.labels, before.label_map))
    return replace(before, name=name, labels=labels, label_map=label_map)


def _moved(file: Path, folder: Path, to: Path) -> str:
    """Find a file of one folder in another; empty where it is not there."""
    there = to / file.relative_to(folder) if file.is_relative_to(folder) else None
    return str(there) if there and there.is_file() else ""


def _plan(dataset: Dataset, config: DataConfig, loaded: LoadedModel, emit: Emit) -> Plan:
    """The splits that the model was trained with: those stored in its run, else the same ones found again."""
    stored = loaded.run.split if loaded.run else None
    if dataset.facts.fingerprint != loaded.checkpoint.provenance["fingerprint"]:
        kept = _what_is_left(held_out_names(stored), dataset) if stored else "its splits may differ"
        emit(Warned(text=f"{dataset.facts.name} has changed since this model was trained: {kept}"))
    if stored:
        return restored_plan(stored, dataset)
    return plan_splits(dataset, config, seed=loaded.checkpoint.provenance["seed"])


def _what_is_left(held_out: set[str | int], dataset: Dataset) -> str:
    """Count how many of the images that were held out are still there."""
    gone = len(held_out.difference(dataset.names("train")))
    if not gone:
        return "what was held out then still is"
    return f"{gone:,} of the {len(held_out):,} images that were held out then are gone"


def _choose_split(dataset: Dataset, plan: Plan, asked: AskedSplit, *, same_data: bool, emit: Emit) -> SplitName:
    """The split to judge; of another data set than the model's without a test split, all that there is."""
    if asked != "auto":
        if asked in plan:
            return asked
        raise DataError(f"{dataset.facts.name} has no {asked} split", hint=f"it has {', '.join(plan)}")
    if "test" in plan:
        return "test"
    if same_data and "val" not in plan:
        raise DataError(
            f"none of the images of {dataset.facts.name} that were held out are there any more",
            hint="vit eval DATASET judges the model on another data set",
        )
    if same_data:
        emit(Warned(text="there is no test split: these images chose the epoch, so they flatter the model"))
        return "val"
    if "val" in plan:
        return "val"
    flattery = "if the model was trained on some of them, they flatter it"
    emit(Warned(text=f"{dataset.facts.name} has no test split, so all of its images are judged: {flattery}"))
    return "train"


def labels_of_model(split: PreparedSplit, classes: tuple[str, ...], known: tuple[str, ...]) -> torch.Tensor:
    """Labels as indices into the model's classes: the two are aligned by name."""
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise DataError(
            f"the model does not know {len(unknown)} of the classes, for example {unknown[0]!r}",
            hint=f"it knows {', '.join(known[:10])}" + (" ..." if len(known) > 10 else ""),
        )
    return torch.tensor([known.index(name) for name in classes])[split.labels]
