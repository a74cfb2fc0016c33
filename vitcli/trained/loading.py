"""Loading of models by the name that a user gives: a run, a file, or pretrained weights."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from vitcli.core.config import DataConfig
from vitcli.core.errors import ModelError, visible
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.run_search import members_with, run_of_checkpoint
from vitcli.core.runs import Run
from vitcli.core.stored import checked
from vitcli.data.preprocess import InputTransform
from vitcli.engine.autocast import Precision
from vitcli.engine.checkpoint import Checkpoint, is_checkpoint, load_checkpoint
from vitcli.engine.device import choose_device
from vitcli.models.pretrained import PRETRAINED, PretrainedEntry, Traits
from vitcli.models.vit import VisionTransformer
from vitcli.models.weights import read_foreign
from vitcli.trained.chosen import BY_OPTION, compared_with_best, kind_of_choice
from vitcli.trained.fetching import fetched_weights
from vitcli.trained.model_names import checkpoint_of, chosen_run, find_model, names_meant_by
from vitcli.trained.precision import choose_precision

_CHANNELS = (1, 3)
"""Numbers of channels that image files can be converted to."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A trained model on its device, in evaluation mode."""

    model: VisionTransformer
    checkpoint: Checkpoint
    path: Path
    run: Run | None
    """The run that contains the checkpoint; None: the checkpoint is outside of runs."""
    device: torch.device

    def __repr__(self) -> str:
        config = self.checkpoint.model
        facts = f"{config.name}, {config.num_parameters:,} parameters, {config.num_classes:,} classes"
        return visible(f"<LoadedModel {self.name}: {facts}, on {self.device}>")

    @property
    def keeps_last(self) -> bool:
        """True if the run kept its last epoch, so that no validation image chose one."""
        return self.run is not None and self.run.keeps_last

    @cached_property
    def precision(self) -> Precision:
        """The precision to compute in: as configured, else as recorded on this machine, else the faster one here."""
        provenance = self.checkpoint.provenance
        return choose_precision(
            self.model,
            work="inference",
            amp=provenance.get("amp", "auto"),
            dtype=provenance.get("amp_dtype", "bfloat16"),
            recorded=provenance.get("computed"),
        )

    @cached_property
    def for_inference(self) -> VisionTransformer:
        """The model, with its matrices in the precision to compute in."""
        return self.precision.rounded(self.model)

    @property
    def name(self) -> str:
        """The name of the run, else the name of the file or the model."""
        if self.run:
            return self.run.name
        return self.path.stem if "run" in self.checkpoint.provenance else self.checkpoint.model.name

    @property
    def typed(self) -> str:
        """The path of the run, or of the file if it is not the run's best, as one types it for ``--model``."""
        is_best = self.run is not None and self.path.resolve() == self.run.best_checkpoint.resolve()
        return shlex.quote(str(self.run.path if self.run and is_best else self.path))

    @property
    def data(self) -> DataConfig:
        """The settings of the data set that the model was trained on; defaults for settings that are not known."""
        known: DataConfig = checked(self.checkpoint.provenance.get("data", {}), DataConfig)
        return known

    @property
    def to_input(self) -> InputTransform:
        """The transform from uint8 batches on the device to model input."""
        return InputTransform(self.checkpoint.preprocessing, self.device)

    def checked(self, logits: Tensor) -> Tensor:
        """Return logits as they are.

        Raises:
            ModelError: they contain NaN or infinity, so that the prediction would mean nothing.
        """
        if not logits.isfinite().all():
            raise ModelError(
                f"{self.name} answers with NaN or infinity, in {self.precision.name}",
                hint="its training may have diverged; `vit runs` lists other runs, --model names one",
            )
        return logits


def load_model(
    name: str = "",
    *,
    output_dir: Path = Path("experiments"),
    device: str = "auto",
    offline: bool = False,
    needs_head: bool = True,
    use: str = BY_OPTION,
    emit: Emit = ignore,
) -> LoadedModel:
    """Load the model of a run, a file or pretrained weights; without a name, of the newest finished run.

    Args:
        name: the model, as for ``find_model``; ``best``: the best finished run on the data of the newest one.
        output_dir: the folder of all runs.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: download nothing.
        needs_head: refuse a model without a classifier of two classes or more.
        use: words about what takes another run, with {} for its name.
        emit: receives notes about the chosen model.

    Raises:
        RunError, ModelError, DataError, UsageError: the model does not exist, or cannot be downloaded, read or used.
        DeviceError: there is no such device.
    """
    chosen_device = choose_device(device)
    chosen = chosen_run(name, output_dir)
    source = read_model(str(chosen.path) if chosen else name, output_dir=output_dir, offline=offline, emit=emit)
    checkpoint = source.checkpoint
    if needs_head and checkpoint.model.num_classes < 2:
        single = "a single output, and the probability of a single class is always 1"
        raise ModelError(
            f"{checkpoint.model.name} has {single if checkpoint.model.num_classes else 'no classifier'}",
            hint=f"vit train DATASET --init-from {shlex.quote(name)} gives it one",
        )
    if checkpoint.model.in_channels not in _CHANNELS:
        raise ModelError(
            f"{checkpoint.model.name} needs images of {checkpoint.model.in_channels} channels, but files have 1 or 3",
            hint=f"vit train DATASET --init-from {shlex.quote(name)} adapts it",
        )
    if chosen:
        epoch = f"epoch {checkpoint.provenance.get('epoch')}, its {'last' if chosen.keeps_last else 'best'}"
        origin = "" if name else f"trained on {chosen.info['dataset']}; "
        which = f"the {kind_of_choice(chosen, name)}, {chosen.name} ({origin}{epoch})"
        emit(Note(text=f"model: {which}{compared_with_best(chosen, name, output_dir, use)}"))
    model = VisionTransformer(checkpoint.model)
    try:
        model.load_state_dict(dict(checkpoint.weights))
    except RuntimeError as error:
        raise ModelError(f"the weights in {source.path} do not fit its configuration: {error}") from None
    if checkpoint.calibration:
        model.divide_logits(checkpoint.calibration.temperature)
        emit(Note(text=f"probabilities are calibrated: temperature {checkpoint.calibration.temperature:.3g}"))
    return LoadedModel(
        model=model.to(chosen_device).eval(),
        checkpoint=checkpoint,
        path=source.path,
        run=source.run,
        device=chosen_device,
    )


def load_models(name: str, *, output_dir: Path, device: str, offline: bool = False, emit: Emit) -> list[LoadedModel]:
    """Load the models to average: of a group, or of a pattern such as ``RUN/fold-*``; else a single model.

    Args:
        name: a model, a group (a cross-validation, or several seeds) or a pattern; empty: the newest finished run;
            ``best``: the best one on the same data; if that run is a fold or a seed, all of its group.
        output_dir: the folder of all runs.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: download nothing.
        emit: receives notes about the chosen models.

    Raises:
        ModelError: the models do not know the same classes.
        RunError: no run matches the pattern.
    """
    names = names_meant_by(name, output_dir, emit)
    models = [load_model(each, output_dir=output_dir, device=device, offline=offline, emit=emit) for each in names]
    if len({tuple(sorted(model.checkpoint.classes)) for model in models}) > 1:
        raise ModelError(f"the models of {name!r} do not know the same classes, so they cannot be averaged")
    if len(models) > 1:
        chosen = chosen_run(name, output_dir)
        which = f", the {'best' if name else 'newest'} {chosen.group}" if chosen else ""
        compared = compared_with_best(chosen, name, output_dir) if chosen else ""
        emit(Note(text=f"model: the mean of {len(models)} models{which}: {names_of(models)}{compared}"))
        uneven = [model.typed for model in models if not model.checkpoint.calibration]
        if uneven and len(uneven) < len(models):
            emit(
                Warned(
                    text=f"only {len(models) - len(uneven)} of these {len(models)} models are calibrated, so their mean is"
                    f" not: `vit eval --calibrate --model {uneven[0]}` calibrates another one"
                )
            )
    return models


def names_of(models: Sequence[LoadedModel]) -> str:
    """Join the names of models for a message."""
    return ", ".join(model.name for model in models)


def are_folds(models: Sequence[LoadedModel]) -> bool:
    """Tell whether several models are folds of a cross-validation."""
    runs = [model.run for model in models if model.run]
    return len(runs) == len(models) > 1 and all(run.is_member and run.group == "cross-validation" for run in runs)


def folder_of(models: Sequence[LoadedModel]) -> Path | None:
    """Return the folder for the results: the run of one model, or a cross-validation if these are all finished folds.

    None: there is no such folder.
    """
    runs = [model.run for model in models if model.run]
    if not runs or len(runs) < len(models):
        return None
    if len(runs) == 1:
        return runs[0].path
    finished = {fold.path.resolve() for fold in members_with(runs[0]) if fold.status == "finished"}
    return runs[0].path.parent if {run.path.resolve() for run in runs} == finished else None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadModel:
    """A model as read from disk."""

    checkpoint: Checkpoint
    path: Path
    run: Run | None


def read_model(name: str, *, output_dir: Path, offline: bool = False, emit: Emit) -> ReadModel:
    """Find a model, download it if necessary, and read it.

    Args:
        name: the model, as for ``find_model``.
        output_dir: the folder of all runs.
        offline: download nothing.
        emit: receives notes about the file's format, and warnings about guesses.

    Raises:
        RunError, ModelError, DataError, UsageError: the model does not exist, cannot be downloaded, or cannot be read.
    """
    match found := find_model(name, output_dir):
        case Path():
            return _read(found, emit)
        case Run():
            checkpoint = checkpoint_of(found)
            return ReadModel(checkpoint=load_checkpoint(checkpoint), path=checkpoint, run=found)
        case PretrainedEntry():
            file = fetched_weights(found, offline=offline, emit=emit)
            called = name if name in PRETRAINED else file.stem if found.url else found.hub.rpartition("/")[2]
            return _read(file, emit, traits=found.traits, name=called)


def _read(path: Path, emit: Emit, *, traits: Traits | None = None, name: str = "") -> ReadModel:
    """Read a file of weights, written by vit or in another known format."""
    if is_checkpoint(path):
        return ReadModel(checkpoint=load_checkpoint(path), path=path, run=run_of_checkpoint(path))
    foreign = read_foreign(path, traits, name=name)
    emit(Note(text=f"weights: {path}, in the format of {foreign.format}"))
    for note in foreign.notes:
        emit(Note(text=f"{path.name}: {note}"))
    if foreign.left_over:
        emit(Note(text=f"not used, because vit's model has no such weights: {', '.join(foreign.left_over)}"))
    for guess in foreign.guesses:
        emit(Warned(text=f"{path.name} does not say it, so this is a guess: {guess}"))
    checkpoint = Checkpoint(
        model=foreign.config,
        classes=foreign.classes,
        preprocessing=foreign.preprocessing,
        provenance={"weights": str(path), "format": foreign.format},
        weights=foreign.weights,
    )
    return ReadModel(checkpoint=checkpoint, path=path, run=None)
