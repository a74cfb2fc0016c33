"""Pictures of a data set before training: its images, their augmented views, and the number of images per class."""

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, configure
from vitcli.core.errors import visible
from vitcli.core.events import Emit, Note, ignore
from vitcli.core.files import check_output_folder, expanded, unused_end, with_end
from vitcli.core.notebooks import html_picture, picture_of
from vitcli.core.preprocessing import Preprocessing, Size
from vitcli.core.runs import slug
from vitcli.data.augment import TrainTransform
from vitcli.data.cache import PreparedSplit, channel_statistics
from vitcli.data.dataset import Dataset
from vitcli.data.preprocess import InputTransform
from vitcli.data.raw import Labels, SplitName
from vitcli.data.samples import spread, whole_images
from vitcli.data.splits import Plan, Subset, no_such_split, plan_splits
from vitcli.data.store import data_dir, words_of
from vitcli.figures.augmentations import draw_augmentations
from vitcli.figures.classes import draw_classes
from vitcli.figures.samples import draw_samples
from vitcli.training.images import geometries, known_colours
from vitcli.training.settings import settle, usual_dataset
from vitcli.training.starting_model import model_input
from vitcli.training.stated_settings import HARMLESS

_ROWS = 4
_VIEWS = 7
"""Number of augmented views of each image."""
_LONGEST = 512
"""Pixels of a sample's longer side, at most."""
_COLOUR_SAMPLE = 256
"""Number of photos for estimating mean and standard deviation, if none are prepared."""
_MIXING = ("mixup", "cutmix")
_NO_CHANGE = {*_MIXING, "feature_views"}
"""Settings of augmentation that do not change single images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """The facts about a data set and its augmentation, and the figures."""

    dataset: str
    recipe: str
    model: str
    image_size: Size
    """Height and width of the model input."""
    images: dict[SplitName, int]
    """Number of images per split."""
    classes: int
    majority: str
    """The class with the most images for training."""
    baseline: dict[SplitName, float]
    """Accuracy of always predicting this class, 0..1, per split."""
    augmentations: dict[str, Any]
    """Settings of augmentation that differ from their defaults; the defaults change nothing."""
    figures: tuple[Path, ...]
    """The files ``samples.png``, ``augmentations.png`` and ``classes.png``; if the folder has such files from an earlier
    preview, ``samples-2.png`` and so on."""

    def __repr__(self) -> str:
        images = ", ".join(f"{count:,} {split}" for split, count in self.images.items())
        return visible(
            f"<Preview of {self.dataset}: {images}; {len(self.figures)} figures in {self.figures[0].parent}>"
        )

    def _repr_html_(self) -> str:
        return "".join(html_picture(picture_of(figure)) for figure in self.figures)


def preview(*layers: Settings, split: SplitName = "train", output: Path | None = None, emit: Emit = ignore) -> Preview:
    """Draw a data set as training would use it; nothing is trained, and only the figures are stored.

    Args:
        layers: settings as for ``train``.
        split: the split that ``samples.png`` shows; ``augmentations.png`` shows training images, ``classes.png`` all.
        output: the folder for the figures; None: ``previews/DATASET`` in the folder of all runs.
        emit: receives notes about decisions.

    Raises:
        UsageError, DataError, ModelError, RunError: the errors that ``train`` would raise before its first step.
    """
    config, dataset, _ = settle((*_with_dataset(layers, emit), HARMLESS), emit)
    facts = dataset.facts
    folder = output or expanded(config.run.output_dir) / "previews" / slug(facts.name)
    check_output_folder(folder)
    plan = plan_splits(dataset, config.data, seed=config.run.seed)
    if split not in plan:
        raise no_such_split(dataset, split, plan)
    model, seen = model_input(config, facts, emit)
    if dataset.raw and config.data.on_bad_image == "skip":
        uncounted = "the numbers of images may include some that cannot be read, because not all are opened"
        opens_all = shlex.join(["vit", "train", *words_of(config.data), "--on-bad-image", "skip", "--dry-run"])
        emit(Note(text=f"{uncounted}: `{opens_all}` opens all"))
    balance = _Balance(dataset, plan)
    figures = [folder / f"{name}.png" for name in ("samples", "augmentations", "classes")]
    end = unused_end(*figures)
    figures = [with_end(path, end) for path in figures]
    _draw_samples(dataset, split, plan, config, figures[0])
    shown = training_views(dataset, plan, config, model.image_size, seen=seen, emit=emit)
    kept, seen_at = _pixels(shown.images.images.shape), _pixels(shown.views.shape)
    draw_augmentations(
        [_unsquashed(*each) for each in zip(shown.images.pixels(), shown.images.stretch.tolist(), strict=True)],
        shown.views.numpy(),
        [facts.classes[kind] for kind in shown.images.labels.tolist()],
        figures[1],
        title=f"{facts.name}: kept at {kept}, seen by the model at {seen_at} pixels",
        notes=in_words(config.augment),
    )
    draw_classes(list(balance.counts.items()), facts.classes, figures[2], title=f"{facts.name}, {balance.in_words()}")
    return Preview(
        dataset=facts.name,
        recipe=config.run.recipe,
        model=model.name,
        image_size=model.image_size,
        images={name: sum(counts) for name, counts in balance.counts.items()},
        classes=len(facts.classes),
        majority=balance.majority,
        baseline=balance.baseline,
        augmentations=changes(config.augment),
        figures=tuple(figures),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingViews:
    """A few training images, and how training would see them."""

    images: PreparedSplit
    """R images as they are stored, (R, C, h, w)."""
    views: Tensor
    """V augmented versions of each, uint8 (R, V, C, H, W)."""


def training_views(
    dataset: Dataset, plan: Plan, config: TrainConfig, image_size: Size, *, seen: Preprocessing | None, emit: Emit
) -> TrainingViews:
    """Prepare a few training images as they are stored, and as training would see them: cropped and augmented.

    Args:
        dataset: the opened data set.
        plan: the images of each split.
        config: the complete configuration.
        image_size: the size of the model input.
        seen: the preprocessing of the weights that training starts from; None: it starts from random weights.
        emit: receives the progress.
    """
    geometry, train_geometry = geometries(
        dataset.facts, config.data, config.augment, image_size, source=seen, emit=emit
    )
    members, labels = _members_and_labels(dataset, plan["train"])
    chosen = members[spread(labels, _ROWS, seed=config.run.seed)]
    known = known_colours(dataset.facts, config.data, seen)
    sample = members[:0] if known else _colour_sample(dataset, members, config.run.seed)
    opened = np.union1d(chosen, sample)
    images = dataset.split("train", train_geometry, members=opened, emit=emit)
    shown_at, sample_at = (
        places[np.isin(places, images.readable())]
        for places in (np.searchsorted(opened, chosen), np.searchsorted(opened, sample))
    )
    shown = images.take(shown_at)
    mean, std = known or channel_statistics(images.images, sample_at)
    preprocessing = Preprocessing(geometry=geometry, image_size=image_size, mean=mean, std=std)
    return TrainingViews(images=shown, views=_augmented(shown, config, preprocessing))


def changes(config: AugmentConfig) -> dict[str, Any]:
    """Return the settings of augmentation that differ from their defaults; the defaults change nothing."""
    usual = AugmentConfig()
    return {
        each.name: getattr(config, each.name)
        for each in fields(AugmentConfig)
        if getattr(config, each.name) != getattr(usual, each.name)
    }


def in_words(config: AugmentConfig) -> list[str]:
    """Describe the augmentations that are on, and those that pictures of single images cannot show."""
    found = changes(config)
    single = [f"{name} {_value(value)}" for name, value in found.items() if name not in _NO_CHANGE]
    mixing = [f"{name} {_value(found[name])}" for name in _MIXING if name in found]
    lines = [f"on: {', '.join(single)}" if single else "nothing changes single images"]
    return [*lines, f"not drawn: {', '.join(mixing)}, which mixes two images"] if mixing else lines


class _Balance:
    """Numbers of images by split and class, and the accuracy of always predicting the most frequent class."""

    def __init__(self, dataset: Dataset, plan: Plan) -> None:
        classes = dataset.facts.classes
        order: tuple[SplitName, ...] = ("train", "val", "test")
        self.counts: dict[SplitName, list[int]] = {
            name: np.bincount(_members_and_labels(dataset, plan[name])[1], minlength=len(classes)).tolist()
            for name in order
            if name in plan
        }
        most = int(np.argmax(self.counts["train"]))
        self.majority = classes[most]
        self.baseline = {name: numbers[most] / sum(numbers) for name, numbers in self.counts.items()}

    def in_words(self) -> str:
        """Describe the balance in one line."""
        scores = ", ".join(f"{100 * share:.1f} % of {name}" for name, share in self.baseline.items())
        return f"{len(self.counts['train']):,} classes; always answering {self.majority!r} scores {scores}"


def _with_dataset(layers: tuple[Settings, ...], emit: Emit) -> tuple[Settings, ...]:
    asked = configure(*layers).data
    if asked.name:
        return layers
    name, why = usual_dataset(data_dir(asked.dir))
    emit(Note(text=f"no data set given: looking at {name} ({why})"))
    return (*layers, {"data": {"name": name}})


def _members_and_labels(dataset: Dataset, subset: Subset) -> tuple[Labels, Labels]:
    """Return the indices of a subset's images, and their labels; both (N,)."""
    members = subset.indices(dataset)
    return members, dataset.labels(subset.found)[members]


def _draw_samples(dataset: Dataset, split: SplitName, plan: Plan, config: TrainConfig, path: Path) -> None:
    classes = dataset.facts.classes
    side = _grid_side(len(classes))
    members, labels = _members_and_labels(dataset, plan[split])
    chosen = spread(labels, side**2, seed=config.run.seed)
    kinds = dict(zip(members[chosen].tolist(), labels[chosen].tolist(), strict=True))
    skip_bad = config.data.on_bad_image == "skip"
    found = whole_images(dataset, plan[split].found, members[chosen], longest=_LONGEST, skip_bad=skip_bad)
    names = [classes[kinds[member]] for member in found]
    title = f"{dataset.facts.name}: {len(found)} of {len(members):,} {split} images"
    draw_samples(list(found.values()), names, path, title=title, columns=side)


def _grid_side(classes: int) -> int:
    """Choose the number of rows and columns, three to five: up to five classes get one row each."""
    return max(classes, 3) if classes <= 5 else min(int(np.ceil(np.sqrt(classes))), 5)


def _colour_sample(dataset: Dataset, members: Labels, seed: int) -> Labels:
    """Choose the images for mean and standard deviation: all if they are prepared already, else a few at random."""
    if dataset.raw is None:
        return members
    return np.random.default_rng(seed).permutation(members)[:_COLOUR_SAMPLE]


def _unsquashed(image: Tensor, stretch: float) -> NDArray[np.uint8]:
    """Give a stored image, (C, h, w), the shape of its photo."""
    height, width = image.shape[1:]
    size = height, max(round(width * stretch), 1)
    whole = image if size[1] == width else F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    pixels: NDArray[np.uint8] = whole.numpy()
    return pixels


def _augmented(stored: PreparedSplit, config: TrainConfig, preprocessing: Preprocessing) -> Tensor:
    """Augment each of R images V times as in training, and convert back to uint8, (R, V, C, H, W)."""
    to_input = InputTransform(preprocessing, torch.device("cpu"))
    generator = torch.Generator().manual_seed(config.run.seed)
    repeated = stored.take(np.arange(len(stored.labels)).repeat(_VIEWS))
    inputs = TrainTransform(config.augment, to_input)(repeated.pixels(), generator, repeated.stretch)
    views: Tensor = to_input.pixels(inputs).unflatten(0, (len(stored.labels), _VIEWS))
    return views


def _pixels(shape: torch.Size) -> str:
    return f"{shape[-2]} x {shape[-1]}"


def _value(value: Any) -> str:
    return (
        " to ".join(map(_value, value))
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
