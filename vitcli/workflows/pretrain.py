"""Pretraining without labels: a model learns from images alone, and training with few labels starts from its weights."""

import os
import shlex
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, configure, settings_of
from vitcli.core.errors import DataError, RunError, UsageError, counted, visible
from vitcli.core.events import Emit, Note, PretrainingEpoch, TrainingAhead, ignore
from vitcli.core.files import expanded, remove_abandoned
from vitcli.core.fingerprints import is_same_data
from vitcli.core.interrupts import stop_requests
from vitcli.core.provenance import command, now
from vitcli.core.run_search import next_name
from vitcli.core.runs import slug
from vitcli.data.dataset import open_dataset
from vitcli.data.preprocess import InputTransform
from vitcli.data.raw import NO_CLASSES
from vitcli.data.store import data_dir
from vitcli.engine.device import describe
from vitcli.engine.distributed import Processes
from vitcli.engine.hardware import hardware, library_versions
from vitcli.engine.pretraining import Hide, Pretrainer
from vitcli.engine.state import State, newest_state
from vitcli.figures.curves import draw_pretraining_curves
from vitcli.figures.reconstructions import draw_reconstructions
from vitcli.models.masked import MaskedModel, hidden_patches
from vitcli.training.assembly import Earlier, Training, assemble
from vitcli.training.duration import estimated_seconds
from vitcli.training.images import image_batches
from vitcli.training.pretraining import (
    MASK_RATIO,
    NOT_USED,
    OBJECTIVE,
    Pretraining,
    PretrainingFile,
    check_resumed,
    check_settings,
)
from vitcli.training.pretraining_saving import PretrainingSaver
from vitcli.training.resumed_run import tell_other_schedule, tell_other_versions
from vitcli.training.resumed_settings import output_dir_of
from vitcli.training.settings import settle

_SHOWN = 8
"""Images in the figure."""
_LONG_SECONDS = 10.0
"""A pretraining that takes longer is announced with its time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainResult:
    """A finished pretraining; functions that take the name of weights take it too."""

    name: str
    """Name of the folder."""
    path: Path
    """The folder."""
    weights: Path
    """The file of the weights, for ``--init-from``."""
    dataset: str
    model: str
    recipe: str
    images: int
    """Images that it was trained on."""
    held_out: int
    """Other images, of which only the loss is computed after each epoch."""
    mask_ratio: float
    """Share of the patches that was hidden."""
    epochs: int
    """Epochs that were trained."""
    train_loss: float
    """Loss of the last epoch: mean squared error of hidden pixels, normalised in each patch; 1 without any knowledge."""
    val_loss: float
    """Loss of the held-out images."""
    seconds: float
    """Time that it has taken."""

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return visible(f"<PretrainResult {self.path}: {counted(self.epochs, 'epoch')}, loss {self.train_loss:.4f}>")


def pretrain(*layers: Settings, mask_ratio: float = MASK_RATIO, emit: Emit = ignore) -> PretrainResult:
    """Pretrain a model on images without their labels, and store its weights.

    The model predicts hidden patches from the others (``models.masked``). Images that ``train`` with the same settings would
    hold out are not trained on.

    Args:
        layers: settings as for ``train``; later layers win. A folder may have any layout.
        mask_ratio: share of the patches that is hidden, in (0, 1).
        emit: receives the progress.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: a setting is wrong, or something does not exist.
        TrainingError, Interrupted: the loss is not finite, or a signal stopped it; ``resume_pretraining`` continues it.
    """
    check_settings(layers, mask_ratio)
    config, dataset, _ = settle(({"about": {"source": "chosen"}, **NOT_USED}, *layers), emit, labelled=False)
    training = assemble(config, dataset, processes=Processes(), emit=emit)
    config, grid = training.config, training.model.config.grid
    if grid[0] * grid[1] < 2:
        raise UsageError("the model has one patch, of which nothing else could be seen", hint="a larger --image-size")
    if dataset.facts.classes != NO_CLASSES:
        images = training.data.test_images + len(training.data.val_members)
        is_divided = len(dataset.facts.counts) == 1
        seed = f" --seed {config.run.seed}" * is_divided
        why = f"the {images:,} images that `vit train{seed}` does not train on are left out here, too"
        emit(Note(text=f"labels are not used; {why}" + " (--test-fraction 0 leaves fewer out)" * is_divided))
    output_dir = expanded(config.run.output_dir)
    path = output_dir / (config.run.name or next_name(output_dir, f"{slug(dataset.facts.name)}-pretraining"))
    work = Pretraining(
        path,
        PretrainingFile(
            started=now(),
            command=command(),
            versions=library_versions(),
            hardware=hardware(),
            dataset=dataset.facts.name,
            fingerprint=dataset.facts.fingerprint,
            images={"train": len(training.data.members), "held_out": len(training.data.val_members)},
            settings=settings_of(config),
            mask_ratio=mask_ratio,
            model=asdict(training.model.config),
            preprocessing=asdict(training.data.preprocessing),
            computed=dict(training.computing.record),
            device=str(training.computing.device),
        ),
    )
    path.mkdir(parents=True, exist_ok=True)
    with work.alone():
        if (path / work.FILE).exists():
            raise RunError(
                f"pretraining {path.name!r} exists already in {output_dir}", hint="--name NAME gives another"
            )
        work.save()
        return _fit(work, training, None, emit)


def resume_pretraining(name: str = "", *layers: Settings, emit: Emit = ignore) -> PretrainResult:
    """Continue a pretraining that was stopped, even within an epoch.

    Args:
        name: its name or path; empty: the newest unfinished one.
        layers: only the number of epochs, the device, ``run.offline`` and paths may be given: of the images, of all runs.
        emit: receives the progress.

    Raises:
        RunError: there is none, it is finished, its state is broken, or another process works on it.
        UsageError: another setting is given.
        DataError: the images are not those that it began with.
    """
    check_resumed(layers, None)
    found = Pretraining.find(name, output_dir_of(layers))
    with found.alone():
        work = Pretraining.open(found.path)
        for folder in (work.path, work.states[0].parent, work.figure("curves").parent):
            remove_abandoned(folder, after=0)
        config, done = configure(settings_of(work.config), *layers), len(work.stored.epochs)
        if work.stored.status == "finished" and config.optim.epochs <= done:
            start = f"`vit train DATASET --init-from {shlex.quote(str(work.path))}` starts from its weights"
            raise RunError(f"{work.path} is finished", hint=f"{start}; --epochs {2 * done} continues it")
        state, faults = newest_state(work.states, emit)
        if not state and (faults or work.stored.epochs):
            hint = f"vit pretrain --init-from {shlex.quote(str(work.path))} starts a new one from its weights"
            raise RunError(f"{work.path} has no training state that can be read", hint=hint)
        if state and config.optim.epochs < (begun := len(state["records"]) + bool(state["step"])):
            raise RunError(
                f"--epochs {config.optim.epochs}: {work.path.name} has already begun epoch {begun}", hint="give more"
            )
        dataset = open_dataset(
            config.data,
            directory=data_dir(config.data.dir),
            offline=config.run.offline,
            labelled=False,
            emit=emit,
        )
        if not is_same_data(work.stored.fingerprint, dataset.facts.fingerprint):
            what = f"{config.data.name} does not have the images and classes that {work.path.name} began with"
            raise DataError(what, hint="leave out the data set, or restore the images")
        earlier = Earlier(
            architecture=work.architecture,
            preprocessing=work.preprocessing,
            computed=work.stored.computed,
            state=state,
            last=work.weights,
        )
        training = assemble(config, dataset, earlier=earlier, processes=Processes(), emit=emit)
        before, now = work.config.optim, training.config.optim
        work.stored.settings, work.stored.dataset = settings_of(training.config), dataset.facts.name
        where = "from its beginning"
        if state:
            work.remember(state["records"])
            work.stored.seconds = max(work.stored.seconds, state["seconds"])
            step = f", after step {state['step']}" if state["step"] else ""
            where = f"in epoch {state['epoch']}{step}"
            if state["epoch"] > config.optim.epochs:
                where = "after its last epoch"
        emit(Note(text=f"resuming {work.path.name} {where}"))
        tell_other_versions(work.stored.versions, emit)
        if state and before.epochs != now.epochs:
            steps = -(-len(training.data.members) // now.batch_size)
            tell_other_schedule(before, now, steps, epoch=state["epoch"], step=state["step"], emit=emit)
        return _fit(work, training, state, emit)


def _fit(work: Pretraining, training: Training, state: State | None, emit: Emit) -> PretrainResult:
    """Train in a folder that is locked, store how it ends, and return the result."""
    config, data, device = training.config, training.data, training.computing.device
    grid = training.model.config.grid
    emit(
        Note(
            text=f"pretraining: {work.path} on {describe(device)}; Ctrl-C loses nothing, `{work.resume_command}` continues"
        )
    )
    if not state and (seconds := estimated_seconds(training) or 0.0) > _LONG_SECONDS:
        emit(TrainingAhead(epochs=config.optim.epochs, images=len(data.members), seconds=seconds))
    model = MaskedModel(training.model).to(device)
    began = time.perf_counter() - work.stored.seconds
    train, val = image_batches(data, config, device)
    hide = partial(hidden_patches, patches=grid[0] * grid[1], share=work.stored.mask_ratio)
    saver = PretrainingSaver(work, model, _provenance(work, config), lambda: time.perf_counter() - began)
    with work.recorded(), stop_requests(f"`{work.resume_command}` continues") as stop:
        pretrainer = Pretrainer(
            model,
            train=train,
            val=val,
            hide=hide,
            config=replace(config.optim, grad_accum_steps=training.computing.micro_batches),
            precision=training.computing.training,
            val_precision=training.computing.inference,
            saver=saver,
            emit=emit,
            stop=stop,
            seed=config.run.seed,
            save_steps=config.run.save_steps,
        )
        if state:
            pretrainer.load_state_dict(state)
        try:
            records = pretrainer.fit()
        finally:
            if work.stored.epochs and (work.path / work.FILE).is_file():
                with suppress(OSError):  # a full disk is reported already
                    draw_pretraining_curves(work.stored.epochs, work.figure("curves"), title=work.name)
        _draw(work, training, model, hide)
    work.states[1].unlink(missing_ok=True)
    return _result(work, training, records)


def _provenance(work: Pretraining, config: TrainConfig) -> Mapping[str, Any]:
    return {
        "pretraining": work.name,
        "objective": OBJECTIVE,
        "mask_ratio": work.stored.mask_ratio,
        "recipe": config.run.recipe,
        "data": asdict(config.data),
        "fingerprint": work.stored.fingerprint,
        "seed": config.run.seed,
    }


def _draw(work: Pretraining, training: Training, model: MaskedModel, hide: Hide) -> None:
    """Draw some of the held-out images, with what is hidden and what the model predicts."""
    data, device = training.data, training.computing.device
    to_input = InputTransform(data.preprocessing, device)
    chosen = data.val.take(data.val_members[:: -(-len(data.val_members) // _SHOWN)])
    pixels = (
        chosen.images if isinstance(chosen.images, torch.Tensor) else chosen.images[torch.arange(len(chosen.labels))]
    )
    images = to_input(pixels.to(device))
    hidden = hide(len(images), torch.Generator().manual_seed(0)).to(device)
    predicted = model.eval().reconstruct(images, hidden)
    draw_reconstructions(
        to_input.pixels(images).cpu().numpy(),
        to_input.pixels(predicted).cpu().numpy(),
        hidden.cpu().numpy(),
        training.model.config.grid,
        work.figure("reconstructions"),
        title=f"{work.name}, {counted(len(work.stored.epochs), 'epoch')}: held-out images, what is seen of them, and what is"
        " predicted (mean and contrast of each patch are given)",
    )


def _result(work: Pretraining, training: Training, records: list[PretrainingEpoch]) -> PretrainResult:
    stored = work.stored
    return PretrainResult(
        name=work.name,
        path=work.path,
        weights=work.weights,
        dataset=stored.dataset,
        model=training.model.config.name,
        recipe=training.config.run.recipe,
        images=stored.images["train"],
        held_out=stored.images["held_out"],
        mask_ratio=stored.mask_ratio,
        epochs=len(records),
        train_loss=records[-1].train_loss,
        val_loss=records[-1].val_loss,
        seconds=stored.seconds,
    )
