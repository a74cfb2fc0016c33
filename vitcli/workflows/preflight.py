"""What a training run would meet, found out before it: bad images, duplicates, imbalance, time and memory."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, configure
from vitcli.core.errors import some
from vitcli.core.events import Emit, LeftOut, Note, Warned, ignore
from vitcli.core.preprocessing import Preprocessing
from vitcli.data.augment import TrainTransform
from vitcli.data.cache import PreparedSplit
from vitcli.data.dataset import Dataset
from vitcli.data.inspection import Place, find_duplicates, inspect, named
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.data.raw import Labels, SplitName
from vitcli.data.splits import Plan, plan_splits
from vitcli.engine.device import choose_device, describe, peak_memory, reset_peak_memory, seed_everything
from vitcli.engine.trial import time_steps
from vitcli.models.vit import VisionTransformer
from vitcli.workflows.diagnosis import diagnosis
from vitcli.workflows.precision import training_precision
from vitcli.workflows.settings import settle
from vitcli.workflows.starting import starting_model
from vitcli.workflows.teacher import Teacher, load_teacher
from vitcli.workflows.trainers import trial_trainer
from vitcli.workflows.training_data import geometries

_NAMED = 5
"""Examples in a report."""
_STEPS = 2
_SKEWED = 0.5
"""A class with this share of the images makes accuracies look better than they are,"""
_SKEWED_TIMES = 2.0
"""if that is also so many times its fair share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leak:
    """Images that are in two splits."""

    splits: tuple[SplitName, SplitName]
    images: int
    examples: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Balance:
    """How many images each class has for training."""

    counts: dict[str, int]
    majority: str
    majority_share: float
    """Of all images, 0..1: what always answering this class would score."""

    @property
    def is_skewed(self) -> bool:
        """Whether accuracy alone would say little."""
        return self.majority_share > max(_SKEWED, _SKEWED_TIMES / len(self.counts))


@dataclass(frozen=True, kw_only=True, slots=True)
class Duplicates:
    """Images that are there more than once, byte for byte."""

    leaks: tuple[Leak, ...]
    """From one split to another: they flatter the model."""
    repeated: int
    """Images for training that are there once more."""
    repeats: tuple[str, ...]
    """Their names, ``first = second = ...``."""
    contradictory: tuple[str, ...]
    """Images with different labels, in whichever splits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preflight:
    """The report of ``vit train --dry-run``."""

    dataset: str
    model: str
    recipe: str
    images: dict[SplitName, int]
    left_out: dict[str, tuple[str, ...]]
    """By reason, rows of a table that are of no use."""
    passed_over: dict[str, tuple[str, ...]]
    """By kind, files that are no error and belong to no class."""
    bad: dict[str, str]
    """By file, why it cannot be read."""
    kinds: dict[str, int]
    """Images that are not plain RGB, by kind; training and prediction treat them alike."""
    duplicates: Duplicates
    balance: Balance
    rare: dict[SplitName, tuple[str, ...]]
    """Classes that have too few images to hold some out, by the split that lacks them."""
    device: str
    step_seconds: float
    epoch_seconds: float
    """Of training, estimated from two steps; validation comes on top."""
    decode_seconds: float
    """It took to decode every image: once where they are cached, in every epoch where they are not."""
    memory_bytes: int
    """The most that was in use: of the device's memory, on the CPU of this process."""
    would_start: bool
    """Whether no image is bad, or bad ones are skipped."""


def preflight(*layers: Settings, emit: Emit = ignore) -> Preflight:
    """Look at everything that training would use, and take two steps; no run is made, and nothing is prepared.

    Args:
        layers: settings as for ``train``.
        emit: told about the progress.

    Raises:
        what ``train`` raises before it begins; bad images are no error here.
    """
    skips = configure(*layers).data.on_bad_image == "skip"
    config, dataset = settle(
        (*layers, {"data": {"on_bad_image": "skip", "cache": "off"}}), _without_what_is_left_out(emit)
    )
    seed_everything(config.run.seed, deterministic=config.run.deterministic)
    model, config, source = starting_model(config, dataset.facts, emit)
    teacher = load_teacher(config, dataset.facts.classes, emit=emit)
    plan = plan_splits(dataset, config.data, seed=config.run.seed)
    seen = source.preprocessing if source else None
    for warning in diagnosis(config, model.config, source=seen):
        emit(Warned(text=warning))
    geometry, train_geometry = geometries(dataset.facts, config, model.config.image_size, source=seen)
    inspection = inspect(dataset, train_geometry, workers=config.data.workers, emit=emit)
    members = plan["train"].indices(dataset)
    is_good = [("train", at) not in inspection.bad for at in members.tolist()]
    good = members[np.array(is_good, dtype=bool)]
    preprocessing = Preprocessing(geometry=geometry, image_size=model.config.image_size, mean=(0.5,), std=(0.5,))
    seconds, memory = 0.0, 0
    if len(good) >= _STEPS:
        images = dataset.split("train", train_geometry, members=_some(good, config))
        seconds, memory = _two_steps(model, images, len(good), config, preprocessing, teacher, emit)
    left_out = dict(dataset.raw.left_out) if dataset.raw else {}
    return Preflight(
        dataset=dataset.facts.name,
        model=config.model.name,
        recipe=config.run.recipe,
        images={name: len(plan[name].indices(dataset)) for name in plan},
        left_out=left_out,
        passed_over=dict(dataset.raw.passed_over) if dataset.raw else {},
        bad={named(dataset, [place])[0]: reason for place, reason in inspection.bad.items()},
        kinds=inspection.kinds,
        duplicates=look_for_duplicates(dataset, plan),
        balance=balance(dataset, plan),
        rare=rare_classes(dataset, plan),
        device=describe(choose_device(config.run.device)),
        step_seconds=seconds,
        epoch_seconds=seconds * len(good) / max(min(config.optim.batch_size, len(good)), 1),
        decode_seconds=inspection.seconds,
        memory_bytes=memory,
        would_start=len(good) >= _STEPS and (skips or not (inspection.bad or left_out)),
    )


def balance(dataset: Dataset, plan: Plan) -> Balance:
    """How many images each class has for training."""
    labels = dataset.labels("train")[plan["train"].indices(dataset)]
    counts = np.bincount(labels, minlength=len(dataset.facts.classes)).tolist()
    most = int(np.argmax(counts))
    return Balance(
        counts=dict(zip(dataset.facts.classes, counts, strict=True)),
        majority=dataset.facts.classes[most],
        majority_share=counts[most] / len(labels),
    )


def rare_classes(dataset: Dataset, plan: Plan) -> dict[SplitName, tuple[str, ...]]:
    """Classes of which nothing could be held out, by the split that lacks them."""
    classes, labels = dataset.facts.classes, dataset.labels("train")
    rare = {}
    for name, part in plan.items():
        if name != "train" and part.members is not None and part.found == "train":
            rare[name] = tuple(classes[at] for at in np.setdiff1d(labels, labels[part.members]))
    return {name: lacking for name, lacking in rare.items() if lacking}


def look_for_duplicates(dataset: Dataset, plan: Plan) -> Duplicates:
    """What is there more than once, within training and across splits."""
    split_of: dict[Place, SplitName] = {
        (part.found, at): name for name, part in plan.items() for at in part.indices(dataset).tolist()
    }
    labels = {name: dataset.labels(name) for name in dataset.facts.counts}
    across: dict[tuple[SplitName, SplitName], list[tuple[Place, Place]]] = defaultdict(list)
    repeated, repeats, contradictory = 0, [], []
    for group in find_duplicates(dataset):
        within = [place for place in group if split_of.get(place) == "train"]
        if len(within) > 1:
            repeated += len(within) - 1
            repeats.append(" = ".join(named(dataset, within)))
        if len({labels[name][at] for name, at in group}) > 1:
            contradictory.append(" = ".join(named(dataset, group)))
        first: dict[SplitName, Place] = {}
        for place in group:
            if place in split_of:
                first.setdefault(split_of[place], place)
        names = sorted(first, key=("train", "val", "test").index)
        for at, one in enumerate(names):
            for other in names[at + 1 :]:
                across[one, other].append((first[one], first[other]))
    leaks = tuple(
        Leak(
            splits=splits,
            images=len(pairs),
            examples=tuple((named(dataset, [a])[0], named(dataset, [b])[0]) for a, b in pairs[:_NAMED]),
        )
        for splits, pairs in across.items()
    )
    return Duplicates(leaks=leaks, repeated=repeated, repeats=tuple(repeats), contradictory=tuple(contradictory))


def quick_warnings(dataset: Dataset, plan: Plan, config: TrainConfig) -> list[str]:
    """The short form of a preflight, before every run: what makes its figures look better than they are."""
    found = look_for_duplicates(dataset, plan)
    warnings = [
        f"{leak.images:,} images are both in {leak.splits[0]} and {leak.splits[1]}, for example"
        f" {' = '.join(leak.examples[0])}: they flatter the model"
        for leak in found.leaks
    ]
    if found.contradictory:
        warnings.append(
            f"{len(found.contradictory):,} images are there twice with different labels: {found.contradictory[0]}"
        )
    for split, names in rare_classes(dataset, plan).items():
        warnings.append(f"too rare for some images to be held out, so {split} lacks them: {some(names)}")
    classes, is_weighted, is_balanced = (
        balance(dataset, plan),
        config.optim.class_weights,
        config.data.balanced_sampling,
    )
    if is_weighted and is_balanced:
        warnings.append("--class-weights and --balanced-sampling together favour rare classes twice")
    elif classes.is_skewed and not (is_weighted or is_balanced):
        warnings.append(
            f"always answering {classes.majority!r} would score {100 * classes.majority_share:.1f} %;"
            " see --class-weights and --balanced-sampling"
        )
    return warnings


def _without_what_is_left_out(emit: Emit) -> Emit:
    """What is bad is reported in the end, so warnings about it on the way are of no use."""
    return lambda event: None if isinstance(event, LeftOut) else emit(event)


def _some(members: Labels, config: TrainConfig) -> Labels:
    """Images for the steps, anywhere in the data."""
    return np.sort(np.random.default_rng(config.run.seed).permutation(members)[: _STEPS * config.optim.batch_size])


def _two_steps(
    model: VisionTransformer,
    images: PreparedSplit,
    total: int,
    config: TrainConfig,
    preprocessing: Preprocessing,
    teacher: Teacher | None,
    emit: Emit,
) -> tuple[float, int]:
    """Seconds of the second step, and the most memory that both took."""
    device = choose_device(config.run.device)
    pixels = images.take(np.arange(len(images.labels))).images  # decoded now: the steps are to be timed without that
    batches = Batches(
        pixels,
        images.labels,
        batch_size=-(-len(images.labels) // _STEPS),
        transform=TrainTransform(config.augment, InputTransform(preprocessing, device)),
        device=device,
        seed=config.run.seed,
    )
    precision = training_precision(model.to(device), config)
    reset_peak_memory(device)
    distillation = teacher.distillation(config, model.config, preprocessing) if teacher else None
    trainer = trial_trainer(model, config, batches, precision, distillation=distillation)
    emit(Note(text=f"taking {_STEPS} steps on {describe(device)}"))
    seconds = time_steps(trainer)[-1]
    scale = min(config.optim.batch_size, total) / (len(images.labels) - batches.batch_size)
    return seconds * scale, peak_memory(device)
