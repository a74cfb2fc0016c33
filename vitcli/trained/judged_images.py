"""The images on which a trained model is evaluated or explained: a split of its own data, or of other data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, ModelError, counted
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.files import expanded
from vitcli.core.fingerprints import is_same_data
from vitcli.core.preprocessing import Geometry
from vitcli.data.cache import PreparedSplit
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.raw import Labels, SplitName
from vitcli.data.registry import canonical_name, full_name
from vitcli.data.splits import Plan, Subset, no_such_split
from vitcli.data.store import data_dir, located, tell_of_folder
from vitcli.data.value_range import mind_other_values
from vitcli.trained.loading import LoadedModel
from vitcli.trained.own_images import BesideOwn, beside_own, count_seen, kept_in, own_plan

AskedSplit = Literal["auto", "train", "val", "test"]
"""A split, or auto: the test split, else the validation split."""
_IN_WORDS: dict[SplitName, str] = {"train": "training", "val": "validation", "test": "test"}
_FLATTERY: dict[SplitName, str] = {
    "train": "the model was trained on these images, so scores are too high",
    "val": "these validation images chose the epoch, so scores may be too high",
    "test": "",
}
"""Why the scores of a split of the model's own data may be too high."""


@dataclass(frozen=True, kw_only=True)
class JudgedImages:
    """A split of a data set, chosen to evaluate or explain a model."""

    dataset: Dataset
    words: Sequence[str]
    """The data set and its table of labels as commands take them; paths are absolute."""
    split: SplitName
    subset: Subset
    is_own: bool
    """True if the data set is the one that the model was trained on."""
    is_out_of_fold: bool = False
    """True if the images are those that the folds validate on, all together."""
    other_labels: str = ""
    """Name of a table of labels that the model was not trained with, or of what was read from it; empty: its own labels."""
    seen: Mapping[SplitName, int] = field(default_factory=dict)
    """The numbers of images of other data that are among the model's own ones, by the split that they had in training."""

    @property
    def part(self) -> str:
        """The images in a word: the split, ``out-of-fold``, or ``all`` if these are all of a data set without splits."""
        return "out-of-fold" if self.is_out_of_fold else "all" if self.are_all else self.split

    @property
    def are_all(self) -> bool:
        """Tell whether these are all images of another data set, which has no splits."""
        return not self.is_own and set(self.dataset.facts.counts) == {"train"}

    def prepared(self, geometry: Geometry, emit: Emit) -> PreparedSplit:
        """Return all images and labels of the split, prepared in this geometry."""
        return self.dataset.split(self.subset.found, geometry, members=self.subset.members, emit=emit)

    def names(self, positions: Labels) -> list[str] | list[int]:
        """Return the names of images by their positions in the split: files below the folder, or indices."""
        return self.dataset.names(self.subset.found, self.subset.indices(self.dataset)[positions])


def counted_images(count: int, part: str) -> str:
    """Count the images of a part: ``359 test images``, or ``7 images`` if these are all."""
    return counted(count, "image" if part == "all" else f"{part} image")


def choose_images(
    models: Sequence[LoadedModel],
    *,
    dataset: str,
    split: AskedSplit,
    directory: str,
    offline: bool,
    hint: str,
    table: Mapping[str, str] | None = None,
    is_out_of_fold: bool = False,
    emit: Emit,
) -> JudgedImages:
    """Open a data set, and choose a split of it; the data that the model was trained on are recognised by fingerprint.

    Args:
        models: the model, or those whose probabilities are averaged; "the model" below is the first one.
        dataset: a data set or folder; empty: the one that the model was trained on.
        split: the split.
        directory: the folder of data sets; empty: as in training.
        offline: download nothing.
        hint: the hint of the error if the model's own data set is not known.
        table: settings of DataConfig for reading a table of labels; None: as in training.
        is_out_of_fold: the model is one of several folds: without test images, all are judged as they validate.
        emit: receives the progress.

    Raises:
        DataError: the data set has no such split.
        ModelError: no data set is given, and the model's own is not known.
    """
    loaded = models[0]
    if not dataset and not loaded.checkpoint.provenance.get("data"):  # absent if vit did not train the weights
        raise ModelError(f"{loaded.name} was not trained with vit, so its data set is not known", hint=hint)
    before, dataset = loaded.data, full_name(dataset)
    tell_of_folder(dataset, emit)
    is_own = not dataset or canonical_name(dataset) == before.name
    asked: Mapping[str, Any] = table or {}
    config = replace(before if is_own else _elsewhere(dataset, before), **asked)
    opened = open_dataset(config, directory=data_dir(directory or kept_in(loaded)), offline=offline, emit=emit)
    if not is_own and is_same_data(opened.facts.fingerprint, loaded.checkpoint.provenance.get("fingerprint")):
        emit(Note(text=f"{opened.facts.name} has the same images and labels as the data of {loaded.name}"))
        is_own = True
    other_labels = ""
    if (
        is_own
        and config != before
        and not is_same_data(opened.facts.fingerprint, loaded.checkpoint.provenance.get("fingerprint"))
    ):
        other_labels = "-".join(Path(str(value)).stem for key, value in asked.items() if value != getattr(before, key))
    seen: Mapping[SplitName, int] | None = None  # not known
    if not is_own:
        known = [(each, beside_own(opened, each, directory, emit)) for each in models]
        first = None if asked else known[0][1]  # a table may have other labels
        if first and (part := _part_of_own(first, opened, loaded, split, emit)):
            return part
        seen = count_seen(known, sum(opened.facts.counts.values()), emit)
    if not is_own:
        _mind_values(models, opened, emit)
    plan = (
        own_plan(opened, loaded, emit, has_other_labels=bool(other_labels))
        if is_own
        else {name: Subset(found=name) for name in opened.facts.counts}
    )
    chosen = _choose_split(opened, plan, split, same_data=is_own, is_seen_known=seen is not None, emit=emit)
    if chosen == "val" and split == "auto" and is_own and not (is_out_of_fold or loaded.keeps_last):
        emit(Warned(text=f"there is no test split: {_FLATTERY['val']}"))
    is_out_of_fold = is_own and is_out_of_fold and chosen == "val"
    return JudgedImages(
        dataset=opened,
        words=replace(config, **located(config)).words,
        split=chosen,
        subset=Subset(found="train") if is_out_of_fold else plan[chosen],
        is_own=is_own,
        is_out_of_fold=is_out_of_fold,
        other_labels=other_labels,
        seen=seen or {},
    )


def _mind_values(models: Sequence[LoadedModel], opened: Dataset, emit: Emit) -> None:
    """Warn if the values of other data do not fit the range of values that a model was trained with."""
    ranges = {model.checkpoint.preprocessing.geometry.value_range for model in models}
    files = [file for split in opened.raw.splits.values() for file in split.files] if opened.raw else []
    mind_other_values({each for each in ranges if each}, files, emit)


def _part_of_own(
    known: BesideOwn, opened: Dataset, loaded: LoadedModel, asked: AskedSplit, emit: Emit
) -> JudgedImages | None:
    """Recognise a folder that is one split of the model's own data, or a copy of it; None: it is other data."""
    for name in known.plan:
        if {*known.parts[name]} == {*known.images} and asked in {"auto", name, *opened.facts.counts}:
            emit(Note(text=f"these are the run's own {_IN_WORDS[name]} images, as with --split {name}"))
            if _FLATTERY[name] and not (name == "val" and loaded.keeps_last):
                emit(Warned(text=_FLATTERY[name]))
            return JudgedImages(
                dataset=known.own, words=loaded.data.words, split=name, subset=known.plan[name], is_own=True
            )
    return None


def _elsewhere(name: str, before: DataConfig) -> DataConfig:
    """Return the settings for another data set, or for the model's own in another folder, read as in training."""
    old, new = Path(before.name), expanded(name)
    labels, label_map = (_moved(Path(file), old, new) for file in (before.labels, before.label_map))
    return replace(before, name=name, labels=labels, label_map=label_map)


def _moved(file: Path, folder: Path, to: Path) -> str:
    """Find a file of one folder in another folder; return an empty string if it is not there."""
    there = to / file.relative_to(folder) if file.is_relative_to(folder) else None
    return str(there) if there and there.is_file() else ""


def _choose_split(
    dataset: Dataset, plan: Plan, asked: AskedSplit, *, same_data: bool, is_seen_known: bool, emit: Emit
) -> SplitName:
    """Choose the split: the given one; for auto, test, else validation, else all images of other data."""
    if asked != "auto":
        if asked in plan:
            return asked
        raise no_such_split(dataset, asked, plan)
    if "test" in plan:
        return "test"
    if same_data and "val" not in plan:
        raise DataError(
            f"the images of {dataset.facts.name} that were held out are all gone",
            hint="vit eval DATASET evaluates the model on another data set",
        )
    if "val" in plan:
        return "val"
    which = f"{dataset.facts.name} has no test split, so all of its images are used"
    doubt = "if the model was trained on some of them, scores are too high"
    emit(Note(text=which) if is_seen_known else Warned(text=f"{which}: {doubt}"))
    return "train"


def unknown_classes(unknown: list[str], found: tuple[str, ...], known: tuple[str, ...], hint: str = "") -> DataError:
    """Return the error for classes of a data set that the model does not know; ``hint`` precedes those that it knows."""
    return DataError(
        f"the model does not know {len(unknown):,} of the {len(found):,} classes, for example {unknown[0]!r}",
        hint=f"{hint}the model knows {', '.join(known[:10])}" + (" ..." if len(known) > 10 else ""),
    )
