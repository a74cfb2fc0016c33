"""The images on which a trained model is evaluated or explained: a split of its own data, or of other data."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import torch

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, ModelError, UsageError, counted
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.preprocessing import Geometry
from vitcli.core.words import seen_in_training
from vitcli.data.cache import PreparedSplit
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.raw import Labels, SplitName
from vitcli.data.registry import canonical_name, full_name
from vitcli.data.splits import Plan, Subset, held_out_names, no_such_split, plan_splits, restored_plan
from vitcli.data.store import data_dir, located
from vitcli.trained.loading import LoadedModel

AskedSplit = Literal["auto", "train", "val", "test"]
"""A split, or auto: the test split, else the validation split."""
_IN_WORDS: dict[SplitName, str] = {"train": "training", "val": "validation", "test": "test"}
_FLATTERY: dict[SplitName, str] = {
    "train": "the model was trained on these images, so scores are too high",
    "val": "these validation images chose the epoch, so scores may be too high",
    "test": "",
}
"""Why the scores of a split of the model's own data may be too high."""
_USED: tuple[SplitName, ...] = ("train", "val")
"""The splits that have a part in training."""


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
    loaded: LoadedModel,
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
        loaded: the model.
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
    if not dataset and not loaded.checkpoint.provenance.get("data"):  # absent if vit did not train the weights
        raise ModelError(f"{loaded.name} was not trained with vit, so its data set is not known", hint=hint)
    before, dataset = loaded.data, full_name(dataset)
    is_own = not dataset or canonical_name(dataset) == before.name
    asked: Mapping[str, Any] = table or {}
    config = replace(before if is_own else _elsewhere(dataset, before), **asked)
    kept_in = before.dir if Path(before.dir).is_dir() else ""  # the model may have been trained on another machine
    opened = open_dataset(config, directory=data_dir(directory or kept_in), offline=offline, emit=emit)
    if not is_own and opened.facts.fingerprint == loaded.checkpoint.provenance.get("fingerprint"):
        emit(Note(text=f"{opened.facts.name} has the same images and labels as the data of {loaded.name}"))
        is_own = True
    seen: Mapping[SplitName, int] | None = None  # not known
    if not is_own and not asked and (known := _beside_own(opened, before, loaded, directory or kept_in, emit)):
        if part := _part_of_own(known, opened, loaded, split, emit):
            return part
        seen = _seen_in_training(known, loaded, emit)
    plan = _plan(opened, before, loaded, emit) if is_own else {name: Subset(found=name) for name in opened.facts.counts}
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
        seen=seen or {},
    )


def count_trained_on(loaded: LoadedModel, dataset: Dataset, emit: Emit) -> int:
    """Count the images of a data set that a model was trained on, or copies of them, recognised by content.

    Args:
        loaded: the model.
        dataset: the data set; images without files are not recognised.
        emit: receives a note if the model's own images are gone, so that it cannot be known.
    """
    before = loaded.data
    known = _beside_own(dataset, before, loaded, before.dir if Path(before.dir).is_dir() else "", emit)
    if not known:
        return 0
    trained = {image for image, _ in known.parts["train"]}
    return sum(image in trained for image, _ in known.images)


@dataclass(frozen=True, kw_only=True, slots=True)
class _BesideOwn:
    """The images of a folder beside those that a model was trained with: what tells each from others, and its class."""

    own: Dataset
    plan: Plan
    images: list[tuple[object, str]]
    parts: Mapping[SplitName, list[tuple[object, str]]]


def _beside_own(
    opened: Dataset, before: DataConfig, loaded: LoadedModel, directory: str, emit: Emit
) -> _BesideOwn | None:
    """Identify images and the model's own ones; None: one of them has no files, or the own ones are gone, which is said."""
    if not opened.raw or not opened.raw.root:
        return None
    try:
        own = open_dataset(before, directory=data_dir(directory), offline=True)
        if not own.raw or not own.raw.root:  # images without files, such as the bundled digits
            return None
        is_inside = opened.raw.root.resolve().is_relative_to(own.raw.root.resolve())
        plan = _plan(own, before, loaded, emit if is_inside else ignore)
    except (DataError, UsageError):
        what = f"whether {loaded.name} was trained on some of these images cannot be known"
        emit(Note(text=f"{what}: its own are not in {before.name} any more"))
        return None
    whole = {name: Subset(found=name) for name in opened.facts.counts}
    sizes = None if is_inside else _sizes(opened, whole) & _sizes(own, plan)
    images = [each for subset in whole.values() for each in _identified(opened, subset, sizes)]
    parts = {name: _identified(own, subset, sizes) for name, subset in plan.items()}
    return _BesideOwn(own=own, plan=plan, images=images, parts=parts)


def _part_of_own(
    known: _BesideOwn, opened: Dataset, loaded: LoadedModel, asked: AskedSplit, emit: Emit
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


def _seen_in_training(known: _BesideOwn, loaded: LoadedModel, emit: Emit) -> dict[SplitName, int]:
    """Count the images that had a part in training, by their split then, and warn of them."""
    seen = dict[SplitName, int]()
    for name in _USED:
        used = set() if name == "val" and loaded.keeps_last else {image for image, _ in known.parts.get(name, ())}
        if count := sum(image in used for image, _ in known.images):
            seen[name] = count
            images = f"{count:,} of {counted(len(known.images), 'image')}"
            emit(Warned(text=f"{seen_in_training(loaded.name, name, images)}: scores are too high"))
    return seen


def _files(dataset: Dataset, subset: Subset) -> list[tuple[Path, str]]:
    """Return the file and the class of each image of a subset."""
    assert dataset.raw is not None
    split, classes = dataset.raw.splits[subset.found], dataset.facts.classes
    return [(split.files[at], classes[split.labels[at]]) for at in subset.indices(dataset)]


def _sizes(dataset: Dataset, plan: Plan) -> set[int]:
    return {file.stat().st_size for subset in plan.values() for file, _ in _files(dataset, subset)}


def _identified(dataset: Dataset, subset: Subset, sizes: Collection[int] | None) -> list[tuple[object, str]]:
    """Return what tells each image of a subset from others, and its class.

    Args:
        dataset: the data set.
        subset: the images.
        sizes: the content tells files of these sizes apart, others are no copies; None: the path alone tells.
    """
    if sizes is None:
        return [(file.resolve(), "") for file, _ in _files(dataset, subset)]
    return [
        (sha256(file.read_bytes()).digest() if file.stat().st_size in sizes else file, name)
        for file, name in _files(dataset, subset)
    ]


def _elsewhere(name: str, before: DataConfig) -> DataConfig:
    """Return the settings for another data set, or for the model's own in another folder, read as in training."""
    old, new = Path(before.name), Path(name).expanduser()
    labels, label_map = (_moved(Path(file), old, new) for file in (before.labels, before.label_map))
    return replace(before, name=name, labels=labels, label_map=label_map)


def _moved(file: Path, folder: Path, to: Path) -> str:
    """Find a file of one folder in another folder; return an empty string if it is not there."""
    there = to / file.relative_to(folder) if file.is_relative_to(folder) else None
    return str(there) if there and there.is_file() else ""


def _plan(dataset: Dataset, config: DataConfig, loaded: LoadedModel, emit: Emit) -> Plan:
    """Return the splits that the model was trained with: as stored in its run, else planned again in the same way."""
    stored = loaded.run.split if loaded.run else None
    if dataset.facts.fingerprint != loaded.checkpoint.provenance["fingerprint"]:
        kept = _what_is_left(held_out_names(stored), dataset) if stored else "its splits may differ"
        emit(Warned(text=f"{dataset.facts.name} has changed since this model was trained: {kept}"))
    if stored:
        return restored_plan(stored, dataset)
    return plan_splits(dataset, config, seed=loaded.checkpoint.provenance["seed"])


def _what_is_left(held_out: set[str | int], dataset: Dataset) -> str:
    """Describe how many of the images that were held out of the training images still exist."""
    if not held_out:
        return "its splits are used as they are now"
    gone = len(held_out.difference(dataset.names("train")))
    if not gone:
        return f"all {counted(len(held_out), 'image')} held out of the training images then still exist"
    return f"{gone:,} of the {counted(len(held_out), 'image')} held out of the training images then no longer exist"


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


def labels_of_model(split: PreparedSplit, classes: tuple[str, ...], known: tuple[str, ...]) -> torch.Tensor:
    """Convert a split's labels to indices of the model's classes, which are matched by name."""
    index = {name: at for at, name in enumerate(known)}
    unknown = [name for name in classes if name not in index]
    if unknown:
        raise unknown_classes(unknown, classes, known)
    return torch.tensor([index[name] for name in classes])[split.labels]


def unknown_classes(unknown: list[str], found: tuple[str, ...], known: tuple[str, ...], hint: str = "") -> DataError:
    """Return the error for classes of a data set that the model does not know; ``hint`` precedes those that it knows."""
    return DataError(
        f"the model does not know {len(unknown):,} of the {len(found):,} classes, for example {unknown[0]!r}",
        hint=f"{hint}the model knows {', '.join(known[:10])}" + (" ..." if len(known) > 10 else ""),
    )
