"""The images that a model is trained and validated on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.config import DataConfig, TrainConfig
from vitcli.core.errors import DataError, FileError, some
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.files import expanded
from vitcli.core.launch import ALONE, Place
from vitcli.core.model_config import check
from vitcli.core.preprocessing import LONGEST, Geometry, Preprocessing, Size
from vitcli.data.augment import TrainTransform
from vitcli.data.cache import PreparedSplit, channel_statistics
from vitcli.data.dataset import Dataset, Facts
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.data.raw import NO_CLASSES, Labels
from vitcli.data.splits import Plan, Subset
from vitcli.data.value_range import tell_range
from vitcli.engine.class_weights import balanced, effective, scaled

_CROP_FRACTION = 0.9
_KNOWN_STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5,), (0.5,)),
    "none": ((0.0,), (1.0,)),
}

_WEIGHTS_HINT = 'expected: {"CLASS": NUMBER, ...}'

_EVAL_BATCH = 512
_MOST_TIMES = 8
"""The most model inputs that a whole training photo takes, side by side."""

Colours = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel, for pixels in 0..1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """The images for training and validation, and the preprocessing that turns other images into model input."""

    train: PreparedSplit
    members: Labels
    """Indices of the training images that are not held out and can be read."""
    val: PreparedSplit
    val_members: Labels
    """Indices of the validation images that can be read."""
    preprocessing: Preprocessing
    class_weights: Tensor | None
    """The weight of each class in the loss, (K,); None: all are equal."""
    skipped: tuple[str, ...]
    """Names of the training and validation images that cannot be read."""
    test_images: int
    """Number of test images; 0: there are none."""

    @property
    def listed_weights(self) -> list[float] | None:
        """The weights of the classes, as a run stores them."""
        return None if self.class_weights is None else self.class_weights.tolist()


def prepare_training_data(
    dataset: Dataset,
    plan: Plan,
    config: TrainConfig,
    image_size: Size,
    *,
    source: Preprocessing | None = None,
    emit: Emit,
) -> TrainingData:
    """Prepare the training and validation images: decode them if necessary, and compute statistics and class weights.

    Args:
        dataset: the opened data set.
        plan: the images of each split.
        config: the complete configuration.
        image_size: the size of the model input.
        source: the preprocessing of the weights that training starts from; None: it starts from random weights.
        emit: receives the progress.

    Raises:
        FileError, DataError: an image, or the file of class weights, cannot be read.
    """
    facts = dataset.facts
    if config.data.val_split == "test":
        emit(
            Warned(
                text="the test images are scored after every epoch, so they are not held out; the last epoch is kept"
            )
        )
    geometry, train_geometry = geometries(facts, config.data, config.augment, image_size, source=source, emit=emit)
    tell_guessed_range(facts, config.data, emit)
    train = dataset.split("train", train_geometry, emit=emit)
    members = train.readable(plan["train"].members)
    if not len(members):
        raise DataError(
            f"none of the images of {facts.name} that train can be read", hint="replace files that are not images"
        )
    val = dataset.split(plan["val"].found, geometry, members=plan["val"].members, emit=emit)
    bad = {"train": _unreadable(dataset, plan["train"], train), "val": _unreadable(dataset, plan["val"], val)}
    read = {plan["val"].found: val, "train": train}
    if "test" in plan and plan["test"].found in read:  # test images in a folder of their own are not read here
        bad["test"] = _unreadable(dataset, plan["test"], read[plan["test"].found])
    images = {name: len(subset.indices(dataset)) - len(bad.get(name, ())) for name, subset in plan.items()}
    counts_of = ", ".join(f"{count:,} {name}" for name, count in images.items())
    is_unknown = config.data.on_bad_image == "skip" and "test" in plan and "test" not in bad
    unknown = " (not read yet)" if is_unknown else ""
    classes = "" if facts.classes == NO_CLASSES else f"; {len(facts.classes):,} classes: {some(facts.classes)}"
    emit(Note(text=f"{facts.name}: {counts_of}{unknown}{classes}"))
    mean, std = known_colours(facts, config.data, source) or channel_statistics(train.images, members)
    preprocessing = Preprocessing(geometry=geometry, image_size=image_size, mean=mean, std=std)
    counts = np.bincount(train.labels.numpy()[members], minlength=len(facts.classes)).tolist()
    if without := [name for name, count in zip(facts.classes, counts, strict=True) if not count]:
        emit(Warned(text=f"no training image of: {some(without)}"))
    validates = val.labels.numpy()[val.readable()]
    if unreadable := np.setdiff1d(dataset.labels(plan["val"].found)[plan["val"].indices(dataset)], validates).tolist():
        names = some([facts.classes[label] for label in unreadable])
        emit(Warned(text=f"no validation image can be read of: {names}; the validation scores say nothing about them"))
    return TrainingData(
        train=train,
        members=members,
        val=val,
        val_members=val.readable(),
        preprocessing=preprocessing,
        class_weights=class_weights(config.optim.class_weights, facts.classes, counts, emit),
        skipped=(*bad["train"], *bad["val"]),
        test_images=images.get("test", 0),
    )


def _unreadable(dataset: Dataset, subset: Subset, prepared: PreparedSplit) -> list[str]:
    """List the images of a subset that cannot be read; ``prepared`` is its whole split, or the subset alone."""
    members = subset.indices(dataset)
    is_subset = len(prepared.labels) == len(members)
    labels = prepared.labels.numpy() if is_subset else prepared.labels.numpy()[members]
    return [str(name) for name in dataset.names(subset.found, members[labels < 0])]


def class_weights(kind: str, classes: Sequence[str], counts: Sequence[int], emit: Emit) -> Tensor | None:
    """Compute the weight of each class in the loss, (K,), from numbers of images or a file; None: all are equal.

    Raises:
        FileError, DataError: the file does not exist, or does not weigh every class.
    """
    if not kind:
        return None
    if kind in {"balanced", "effective"}:
        return scaled(balanced(counts) if kind == "balanced" else effective(counts), counts)
    weights = _weights_of_file(kind)
    if missing := [repr(name) for name in classes if name not in weights]:
        raise DataError(f"{kind} does not weigh every class: {some(missing)} are missing", hint=_WEIGHTS_HINT)
    if others := [repr(name) for name in weights if name not in classes]:
        emit(Warned(text=f"{kind} has weights for unknown classes: {some(others)}"))
    return scaled(torch.tensor([weights[name] for name in classes]), counts)


def _weights_of_file(name: str) -> dict[str, float]:
    try:
        content = json.loads(expanded(name).read_text(encoding="utf-8"), parse_int=float)
    except FileNotFoundError:
        raise FileError(
            f"class_weights = {name!r} is not a file", hint="expected: balanced, effective, or a JSON file"
        ) from None
    except (OSError, ValueError):
        raise DataError(f"{name} is not a JSON file", hint=_WEIGHTS_HINT) from None
    if not isinstance(content, dict):
        raise DataError(f"{name} does not map class names to weights", hint=_WEIGHTS_HINT)
    for key, value in content.items():
        if not isinstance(value, float) or not 0 < torch.tensor(value) < float("inf"):
            raise DataError(f"{name} weighs {key!r} by {value!r}, which is not a positive number", hint=_WEIGHTS_HINT)
    return content


def tell_guessed_range(facts: Facts, config: DataConfig, emit: Emit) -> None:
    """Say which values of images with more than 8 bits are black and white, if no setting does."""
    if facts.value_range and not any(config.value_range):
        remedy = "; `--set data.value_range=[LOW,HIGH]` sets them"
        tell_range(facts.value_range, emit, why=f"{facts.name} has images with more than 8 bits: ", remedy=remedy)


def geometries(
    facts: Facts,
    config: DataConfig,
    augment: AugmentConfig,
    image_size: Size,
    *,
    source: Preprocessing | None,
    emit: Emit = ignore,
) -> tuple[Geometry, Geometry]:
    """Choose the geometry of images for evaluation, and for training; warn if photos are too long for it."""
    if native := facts.native_geometry:
        return native, native
    geometry = _geometry_of_photos(config, image_size, facts, source)
    return geometry, _training_geometry(geometry, facts.aspect, augment, emit)


def _geometry_of_photos(config: DataConfig, size: Size, facts: Facts, source: Preprocessing | None) -> Geometry:
    """Choose how photos become the model's size: as configured, else as the weights expect, else by a centre crop."""
    usual = source.geometry if source else Geometry(size=size, channels=facts.channels, crop_fraction=_CROP_FRACTION)
    resize = usual.resize if config.resize == "auto" else config.resize
    kept = config.crop_fraction or (usual.crop_fraction if usual.resize != "squash" else _CROP_FRACTION)
    interpolation = usual.interpolation if config.interpolation == "auto" else config.interpolation
    check(
        resize == "squash" or interpolation != "bilinear-no-antialias",
        f"the weights were trained with interpolation {interpolation!r}, which cannot crop photos",
        "--set data.resize=squash, or --set data.interpolation=bilinear",
    )
    return Geometry(
        size=size,
        channels=facts.channels,
        resize=resize,
        crop_fraction=kept if resize != "squash" else 1.0,
        interpolation=interpolation,
        value_range=facts.value_range or usual.value_range,
    )


def _training_geometry(geometry: Geometry, aspect: float, augment: AugmentConfig, emit: Emit) -> Geometry:
    """Choose the geometry of training photos: whole photos for random resized crops, else as in evaluation."""
    if augment.crop_scale == 1:
        return geometry
    rows, columns = geometry.size
    low = max(columns / rows / _MOST_TIMES, columns / LONGEST)
    high = min(columns / rows * _MOST_TIMES, LONGEST / rows)
    if not low <= aspect <= high:
        kept = min(max(aspect, low), high)
        emit(
            Warned(
                text=f"half of the photos have a width of {aspect:.3g} times their height, or an even longer shape: training squashes"
                f" them to {kept:.3g} times, which blurs them; an --image-size of a similar shape keeps more of them"
            )
        )
        aspect = kept
    height = max(rows, columns / aspect)  # the smallest such size that covers the model's
    size: Size = (round(height), round(height * aspect))
    return replace(geometry, size=size, resize="squash", crop_fraction=1.0)


def known_colours(facts: Facts, config: DataConfig, source: Preprocessing | None) -> Colours | None:
    """Return the mean and standard deviation for normalisation; None: compute them from the training images."""
    kind, channels = config.normalise, facts.channels
    if kind == "auto" and source and len(source.mean) == channels:
        return source.mean, source.std
    if kind in {"auto", "dataset"}:
        return None
    mean, std = _KNOWN_STATISTICS[kind]
    if kind == "imagenet" and channels == 1:
        return (sum(mean) / 3,), (sum(std) / 3,)
    return (mean * channels)[:channels], (std * channels)[:channels]


def image_batches(
    data: TrainingData, config: TrainConfig, device: torch.device, place: Place = ALONE
) -> tuple[Batches, Batches]:
    """Make shuffled, augmented batches for training, and plain batches for validation."""
    to_input = InputTransform(data.preprocessing, device)
    train = Batches(
        data.train.images,
        data.train.labels,
        stretch=data.train.stretch,
        members=torch.from_numpy(data.members),
        batch_size=config.optim.batch_size,
        transform=TrainTransform(config.augment, to_input),
        device=device,
        seed=config.run.seed,
        balanced=config.data.balanced_sampling,
        place=place,
    )
    val = Batches(
        data.val.images,
        data.val.labels,
        members=torch.from_numpy(data.val_members),
        batch_size=_EVAL_BATCH,
        transform=to_input,
        device=device,
        place=place,
    )
    return train, val
