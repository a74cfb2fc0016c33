"""The check of a training before it starts: bad images, duplicates, class balance, time and memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Setting, Settings, configure, resolved
from vitcli.core.events import Emit, LeftOut, Note, Warned, ignore
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Preprocessing, ValueRange
from vitcli.data.augment import TrainTransform
from vitcli.data.cache import PreparedSplit
from vitcli.data.dataset import Dataset
from vitcli.data.findings import Balance, Duplicates, balance, look_for_duplicates, rare_classes
from vitcli.data.inspection import Inspection, inspect, named
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.data.raw import Labels, SplitName
from vitcli.data.splits import Subset
from vitcli.engine.device import choose_device, describe, peak_memory, reset_peak_memory
from vitcli.engine.distributed import Processes
from vitcli.engine.trial import StepTime, time_steps, time_update, trial_trainer
from vitcli.models.vit import VisionTransformer
from vitcli.training.advice import advice_on_few_images, advice_on_settings
from vitcli.training.assembly import begin
from vitcli.training.computing import training_precision, within_memory
from vitcli.training.duration import time_of_training
from vitcli.training.images import class_weights, geometries, tell_guessed_range
from vitcli.training.settings import settle
from vitcli.training.teacher import Teacher, distillation_by

_STEPS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class DryRun:
    """The report of ``vit train --dry-run``."""

    dataset: str
    model: str
    recipe: str
    images: dict[SplitName, int]
    """Number of images per split that can be read."""
    left_out: dict[str, tuple[str, ...]]
    """Rows of the table of labels that cannot be used, by reason."""
    passed_over: dict[str, tuple[str, ...]]
    """Files that are ignored because they belong to no class, by kind; they are not errors."""
    bad: dict[str, str]
    """The reason why an image cannot be read, by file."""
    kinds: dict[str, int]
    """The number of images that are not plain RGB, by kind; training and prediction treat them in the same way."""
    value_range: ValueRange | None
    """The values of black and white in images with more than 8 bits; None: there are no such images."""
    duplicates: Duplicates
    """Images that occur more than once."""
    balance: Balance
    """Number of training images of each class."""
    rare: dict[SplitName, tuple[str, ...]]
    """Classes without a validation or test image that can be read, by the split that lacks them."""
    device: str
    step_seconds: float
    """Time of one step, with a full batch."""
    epoch_seconds: float
    """Estimated time of training per epoch, from two steps; validation takes additional time."""
    training_seconds: float
    """Estimated time of all epochs, with validation."""
    decode_seconds: float
    """Time for decoding every image: needed once if images are cached, otherwise in every epoch."""
    memory_bytes: int
    """Highest memory use in the two steps: of the device, or of this process on the CPU."""
    settings: dict[str, dict[str, Setting]]
    """Every setting by section and key, with its source."""
    would_start: bool
    """True if training would start: no image is bad, or bad images are skipped, and enough are left."""


def dry_run(*layers: Settings, emit: Emit = ignore) -> DryRun:
    """Check everything that training would use, and take two steps; no run is made, and no images are prepared.

    Args:
        layers: settings as for ``train``.
        emit: receives the progress.

    Raises:
        The errors that ``train`` raises before training begins; bad images are not errors here.
    """
    # Begin a training that leaves out bad images
    skips = configure(*layers).data.on_bad_image == "skip"
    lenient = {"data": {"on_bad_image": "skip", "cache": "off"}}
    config, dataset, settled = settle((*layers, lenient), _without_what_is_left_out(emit))
    begun = begin(config, dataset, processes=Processes(), emit=emit)
    config, model, plan = begun.config, begun.model, begun.plan
    for warning in (
        *advice_on_settings(config, model.config, source=begun.seen),
        *advice_on_few_images(dataset, plan, config),
    ):
        emit(Warned(text=warning))

    # Decode every image
    geometry, train_geometry = geometries(
        dataset.facts, config.data, config.augment, model.config.image_size, source=begun.seen, emit=emit
    )
    tell_guessed_range(dataset.facts, config.data, emit)
    inspection = inspect(dataset, train_geometry, workers=config.data.workers, emit=emit)
    plan = {name: _readable(subset, dataset, inspection) for name, subset in plan.items()}
    good = plan["train"].indices(dataset)
    found = balance(dataset, plan)
    class_weights(config.optim.class_weights, dataset.facts.classes, [*found.counts.values()], emit)
    preprocessing = Preprocessing(geometry=geometry, image_size=model.config.image_size, mean=(0.5,), std=(0.5,))

    # Take two steps
    step, memory = StepTime(0, 0), 0
    if len(good) >= _STEPS:
        images = dataset.split("train", train_geometry, members=_some(good, config))
        step, memory = _two_steps(model, images, config, preprocessing, begun.teacher, emit)
    validation = len(plan["val"].indices(dataset)) if "val" in plan else 0
    epochs = config.optim.epochs
    passes = max(config.augment.feature_views, 1) if config.sees_images_once else epochs
    timed = partial(time_of_training, step, replace(config.optim, epochs=passes), model.config, images=len(good))
    left_out = dict(dataset.raw.left_out) if dataset.raw else {}
    return DryRun(
        dataset=dataset.facts.name,
        model=model.config.name,
        recipe=config.run.recipe,
        images={name: len(plan[name].indices(dataset)) for name in plan},
        left_out=left_out,
        passed_over=dict(dataset.raw.passed_over) if dataset.raw else {},
        bad={named(dataset, [place])[0]: reason for place, reason in inspection.bad.items()},
        kinds=inspection.kinds,
        value_range=geometry.value_range,
        duplicates=look_for_duplicates(dataset, plan),
        balance=found,
        rare=rare_classes(dataset, plan),
        device=describe(choose_device(config.run.device)),
        step_seconds=min(config.optim.batch_size, len(good)) * step.image + step.update,
        epoch_seconds=timed(validation=0) / epochs,
        training_seconds=timed(validation=validation),
        decode_seconds=inspection.seconds,
        memory_bytes=memory,
        settings=_settings(config, [layer for layer in settled if layer is not lenient], model.config),
        would_start=len(good) >= _STEPS and (skips or not (inspection.bad or left_out)),
    )


def _readable(subset: Subset, dataset: Dataset, inspection: Inspection) -> Subset:
    """Leave out the images of a subset that cannot be read."""
    if not any(name == subset.found for name, _ in inspection.bad):
        return subset
    members = subset.indices(dataset)
    is_good = [(subset.found, at) not in inspection.bad for at in members.tolist()]
    return replace(subset, members=members[np.array(is_good, dtype=bool)])


def _without_what_is_left_out(emit: Emit) -> Emit:
    """Return an ``emit`` that hides warnings about bad images, because the report lists them."""
    return lambda event: None if isinstance(event, LeftOut) else emit(event)


def _settings(config: TrainConfig, layers: Sequence[Settings], model: ModelConfig) -> dict[str, dict[str, Setting]]:
    """List the settings that training would use; this check alone skips bad images and caches none."""
    data = configure(*layers).data
    data = replace(config.data, on_bad_image=data.on_bad_image, cache=data.cache)
    settings = resolved(replace(config, data=data), layers)
    if "image_size" not in config.model.changes:  # it decides on time and memory
        settings["model"]["image_size"] = Setting(value=[*model.image_size], source="chosen")
    if config.optim.warmup != config.optim.warmup_epochs:
        settings["optim"]["warmup_epochs"] = Setting(value=config.optim.warmup, source="chosen")
    return settings


def _some(members: Labels, config: TrainConfig) -> Labels:
    """Draw random images for the steps."""
    return np.sort(np.random.default_rng(config.run.seed).permutation(members)[: _STEPS * config.optim.batch_size])


def _two_steps(
    model: VisionTransformer,
    images: PreparedSplit,
    config: TrainConfig,
    preprocessing: Preprocessing,
    teacher: Teacher | None,
    emit: Emit,
) -> tuple[StepTime, int]:
    """Take two steps; return the time of the second one, and the highest memory use."""
    device = choose_device(config.run.device)
    images = images.take(np.arange(len(images.labels)))  # decoded now, before the steps are timed
    batches = Batches(
        images.images,
        images.labels,
        stretch=images.stretch,
        batch_size=-(-len(images.labels) // _STEPS),
        transform=TrainTransform(config.augment, InputTransform(preprocessing, device)),
        device=device,
        seed=config.run.seed,
    )
    precision = training_precision(model.to(device), config)
    micro_batches = within_memory(
        model, precision, batch_size=batches.batch_size, micro_batches=config.optim.grad_accum_steps or 1, emit=emit
    )
    config = replace(config, optim=replace(config.optim, grad_accum_steps=micro_batches))
    reset_peak_memory(device)
    distillation = distillation_by(teacher, config.teacher, model.config, preprocessing)
    trainer = trial_trainer(model, config, batches, precision, distillation=distillation)
    emit(Note(text=f"taking {_STEPS} steps on {describe(device)}"))
    seconds = time_steps(trainer)[-1]
    step = StepTime.of(seconds, time_update(trainer), images=len(images.labels) - batches.batch_size)
    return step, peak_memory(device)
