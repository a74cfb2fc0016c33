"""Check a training before it starts: bad images, duplicates, class balance, time and memory."""

from dataclasses import dataclass

import numpy as np

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, configure
from vitcli.core.events import Emit, LeftOut, Note, Warned, ignore
from vitcli.core.preprocessing import Preprocessing
from vitcli.data.augment import TrainTransform
from vitcli.data.cache import PreparedSplit
from vitcli.data.findings import Balance, Duplicates, balance, look_for_duplicates, rare_classes
from vitcli.data.inspection import inspect, named
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.data.raw import Labels, SplitName
from vitcli.engine.device import choose_device, describe, peak_memory, reset_peak_memory
from vitcli.engine.distributed import Processes
from vitcli.engine.trial import time_steps, trial_trainer
from vitcli.models.vit import VisionTransformer
from vitcli.training.advice import advice_on_settings
from vitcli.training.assembly import begin
from vitcli.training.computing import training_precision
from vitcli.training.images import geometries
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
    left_out: dict[str, tuple[str, ...]]
    """By reason, rows of a table that are of no use."""
    passed_over: dict[str, tuple[str, ...]]
    """By kind, files that are not errors and belong to no class."""
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


def dry_run(*layers: Settings, emit: Emit = ignore) -> DryRun:
    """Look at everything that training would use, and take two steps; no run is made, and nothing is prepared.

    Args:
        layers: settings as for ``train``.
        emit: told about the progress.

    Raises:
        what ``train`` raises before it begins; bad images are not errors here.
    """
    # Begin a training, bad images left out
    skips = configure(*layers).data.on_bad_image == "skip"
    config, dataset = settle(
        (*layers, {"data": {"on_bad_image": "skip", "cache": "off"}}), _without_what_is_left_out(emit)
    )
    begun = begin(config, dataset, processes=Processes(), emit=emit)
    config, model, plan = begun.config, begun.model, begun.plan
    for warning in advice_on_settings(config.optim, model.config, source=begun.seen):
        emit(Warned(text=warning))

    # Look at every image
    geometry, train_geometry = geometries(
        dataset.facts, config.data, config.augment, model.config.image_size, source=begun.seen
    )
    inspection = inspect(dataset, train_geometry, workers=config.data.workers, emit=emit)
    members = plan["train"].indices(dataset)
    is_good = [("train", at) not in inspection.bad for at in members.tolist()]
    good = members[np.array(is_good, dtype=bool)]
    preprocessing = Preprocessing(geometry=geometry, image_size=model.config.image_size, mean=(0.5,), std=(0.5,))

    # Take two steps
    seconds, memory = 0.0, 0
    if len(good) >= _STEPS:
        images = dataset.split("train", train_geometry, members=_some(good, config))
        seconds, memory = _two_steps(model, images, len(good), config, preprocessing, begun.teacher, emit)
    left_out = dict(dataset.raw.left_out) if dataset.raw else {}
    return DryRun(
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


def _without_what_is_left_out(emit: Emit) -> Emit:
    """Hide warnings about bad images, which the report lists in the end."""
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
    distillation = distillation_by(teacher, config.teacher, model.config, preprocessing)
    trainer = trial_trainer(model, config, batches, precision, distillation=distillation)
    emit(Note(text=f"taking {_STEPS} steps on {describe(device)}"))
    seconds = time_steps(trainer)[-1]
    scale = min(config.optim.batch_size, total) / (len(images.labels) - batches.batch_size)
    return seconds * scale, peak_memory(device)
