"""The images that a model was trained with, recognised among others by their place or their content."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from vitcli.core.errors import DataError, UsageError, counted
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.fingerprints import is_same_data
from vitcli.core.words import seen_in_training
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.raw import SplitName
from vitcli.data.splits import Plan, Subset, held_out_names, plan_splits, restored_plan
from vitcli.data.store import data_dir
from vitcli.trained.loading import LoadedModel

_USED: tuple[SplitName, ...] = ("train", "val")
"""The splits that have a part in training."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BesideOwn:
    """The images of a folder beside those that a model was trained with: what tells each from others, and its class."""

    own: Dataset
    plan: Plan
    images: list[tuple[object, str]]
    parts: Mapping[SplitName, list[tuple[object, str]]]


def beside_own(opened: Dataset, loaded: LoadedModel, directory: str, emit: Emit) -> BesideOwn | None:
    """Identify images and the model's own ones; None: one has no files, or the own ones are not known, which is said."""
    if not opened.raw or not opened.raw.root:
        return None
    what = f"whether {loaded.name} was trained on some of these images cannot be known"
    if not loaded.checkpoint.provenance.get("data"):
        emit(Note(text=f"{what}: vit did not train it"))
        return None
    try:
        own = open_dataset(loaded.data, directory=data_dir(directory or kept_in(loaded)), offline=True)
        if not own.raw or not own.raw.root:  # images without files, such as the bundled digits
            return None
        is_inside = opened.raw.root.resolve().is_relative_to(own.raw.root.resolve())
        plan = own_plan(own, loaded, emit if is_inside else ignore)
    except (DataError, UsageError):
        emit(Note(text=f"{what}: its own are not in {loaded.data.name} any more"))
        return None
    whole = {name: Subset(found=name) for name in opened.facts.counts}
    sizes = None if is_inside else _sizes(opened, whole) & _sizes(own, plan)
    images = [each for subset in whole.values() for each in _identified(opened, subset, sizes)]
    parts = {name: _identified(own, subset, sizes) for name, subset in plan.items()}
    return BesideOwn(own=own, plan=plan, images=images, parts=parts)


def count_seen(
    known: Sequence[tuple[LoadedModel, BesideOwn | None]], total: int, emit: Emit
) -> dict[SplitName, int] | None:
    """Count the images that had a part in the training of a model, by their split then, and warn of them.

    None: of a model it is not known.
    """
    seen, before = dict[SplitName, int](), set[int]()
    for name in _USED:
        found = [(loaded.name, _positions(beside, name, loaded)) for loaded, beside in known if beside]
        if positions := set[int]().union(*(its for _, its in found)) - before:
            seen[name] = len(positions)
            images = f"{len(positions):,} of {counted(total, 'image')}"
            who = list(dict.fromkeys(model for model, its in found if its))
            emit(Warned(text=f"{seen_in_training(who, name, images)}: scores are too high"))
        before |= positions
    return seen if all(beside for _, beside in known) else None


def count_trained_on(loaded: LoadedModel, dataset: Dataset, emit: Emit) -> int:
    """Count the images of a data set that a model was trained on, or copies of them, recognised by content.

    Args:
        loaded: the model.
        dataset: the data set; images without files are not recognised.
        emit: receives a note if the model's own images are gone, so that it cannot be known.
    """
    known = beside_own(dataset, loaded, "", emit)
    if not known:
        return 0
    trained = {image for image, _ in known.parts["train"]}
    return sum(image in trained for image, _ in known.images)


def kept_in(loaded: LoadedModel) -> str:
    """Return the folder of data sets in training; empty: it is not here, because training ran on another machine."""
    return loaded.data.dir if Path(loaded.data.dir).is_dir() else ""


def own_plan(dataset: Dataset, loaded: LoadedModel, emit: Emit, *, has_other_labels: bool = False) -> Plan:
    """Return the splits that the model was trained with: as stored in its run, else planned again in the same way."""
    stored = loaded.run.split if loaded.run else None
    if not is_same_data(dataset.facts.fingerprint, loaded.checkpoint.provenance["fingerprint"]):
        kept = _what_is_left(held_out_names(stored), dataset) if stored else "its splits may differ"
        name = dataset.facts.name
        what = f"{name} has other labels here than" if has_other_labels else f"{name} has changed since"
        emit(Warned(text=f"{what} {'when ' * has_other_labels}this model was trained: {kept}"))
    if stored:
        return restored_plan(stored, dataset)
    return plan_splits(dataset, loaded.data, seed=loaded.checkpoint.provenance["seed"])


def _what_is_left(held_out: set[str | int], dataset: Dataset) -> str:
    """Describe how many of the images that were held out of the training images still exist."""
    if not held_out:
        return "its splits are used as they are now"
    gone = len(held_out.difference(dataset.names("train")))
    if not gone:
        return f"all {counted(len(held_out), 'image')} held out of the training images then still exist"
    return f"{gone:,} of the {counted(len(held_out), 'image')} held out of the training images then no longer exist"


def _positions(beside: BesideOwn, name: SplitName, loaded: LoadedModel) -> set[int]:
    """Return the positions of images that were in a split of the model's own data; validation must have chosen its epoch."""
    used = set() if name == "val" and loaded.keeps_last else {image for image, _ in beside.parts.get(name, ())}
    return {at for at, (image, _) in enumerate(beside.images) if image in used}


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
