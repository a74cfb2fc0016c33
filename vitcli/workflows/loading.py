"""From what a user calls a model (nothing, a run, a file, pretrained weights) to a model that is ready for use."""

import glob
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import torch

from vitcli.core.config import DataConfig
from vitcli.core.errors import ModelError, RunError, did_you_mean
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.runs import Run, all_runs, find_run, folds_of, folds_with, newest_finished, run_of_checkpoint
from vitcli.data.preprocess import InputTransform
from vitcli.engine.checkpoint import Checkpoint, is_checkpoint, load_checkpoint
from vitcli.engine.device import Precision, choose_device
from vitcli.models.hub import fetch_weights, find_entry
from vitcli.models.pretrained import PRETRAINED, Traits
from vitcli.models.vit import VisionTransformer
from vitcli.models.weights import read_foreign, weights_in
from vitcli.workflows.listings import weights_dir
from vitcli.workflows.precision import choose_precision

_CHANNELS = (1, 3)
"""What image files are turned into."""


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A trained model on its device, in evaluation mode."""

    model: VisionTransformer
    checkpoint: Checkpoint
    path: Path
    run: Run | None
    """The run that the checkpoint lies in, where it lies in one."""
    device: torch.device

    @cached_property
    def precision(self) -> Precision:
        """What to compute in: as training was told, or did on this machine, else what is faster here."""
        provenance = self.checkpoint.provenance
        return choose_precision(
            self.model,
            work="inference",
            amp=provenance.get("amp", "auto"),
            dtype=provenance.get("amp_dtype", "bfloat16"),
            recorded=provenance.get("computed"),
        )

    @property
    def name(self) -> str:
        """The run's name, else the model's or the file's."""
        if self.run:
            return self.run.name
        return self.path.stem if "run" in self.checkpoint.provenance else self.checkpoint.model.name

    @property
    def data(self) -> DataConfig:
        """How the data set was read that it was trained on; the defaults where that is not known."""
        known = self.checkpoint.provenance.get("data", {})
        return DataConfig(**{each.name: known[each.name] for each in fields(DataConfig) if each.name in known})

    @property
    def to_input(self) -> InputTransform:
        """From uint8 batches on the device to model input."""
        return InputTransform(self.checkpoint.preprocessing, self.device)


def load_model(
    name: str = "",
    *,
    output_dir: Path = Path("experiments"),
    device: str = "auto",
    offline: bool = False,
    needs_head: bool = True,
    emit: Emit = ignore,
) -> LoadedModel:
    """The model of a run, a file or pretrained weights; of the newest finished run if none is named.

    Args:
        name: as for ``read_model``; empty: the newest finished run.
        output_dir: where runs are.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: fetch nothing.
        needs_head: refuse a model that cannot tell classes.
        emit: told which model was taken.
    """
    chosen_device = choose_device(device)
    source = read_model(name, output_dir=output_dir, offline=offline, emit=emit)
    checkpoint = source.checkpoint
    if needs_head and not checkpoint.model.num_classes:
        raise ModelError(
            f"{checkpoint.model.name} has no classifier", hint=f"vit train DATASET --init-from {name} gives it one"
        )
    if checkpoint.model.in_channels not in _CHANNELS:
        raise ModelError(
            f"{checkpoint.model.name} wants images of {checkpoint.model.in_channels} channels, files have 1 or 3",
            hint=f"vit train DATASET --init-from {name} adapts it",
        )
    if not name:
        assert source.run is not None
        epoch = checkpoint.provenance.get("epoch")
        emit(Note(text=f"model: the newest finished run, {source.run.name} (epoch {epoch}, its best)"))
    model = VisionTransformer(checkpoint.model)
    try:
        model.load_state_dict(dict(checkpoint.weights))
    except RuntimeError as error:
        raise ModelError(f"the weights in {source.path} do not fit its configuration: {error}") from None
    return LoadedModel(
        model=model.to(chosen_device).eval(),
        checkpoint=checkpoint,
        path=source.path,
        run=source.run,
        device=chosen_device,
    )


def load_models(name: str, *, output_dir: Path, device: str, offline: bool = False, emit: Emit) -> list[LoadedModel]:
    """Several models to be averaged: a cross-validation, or a pattern such as ``RUN/fold-*``; else just one.

    Args:
        name: empty: the newest finished run, and all of its cross-validation if it is a fold.
        output_dir: where runs are.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: fetch nothing.
        emit: told which models were taken.

    Raises:
        ModelError: they do not know the same classes.
        RunError: no run fits the pattern.
    """
    names = _meant_by(name, output_dir, emit)
    models = [load_model(each, output_dir=output_dir, device=device, offline=offline, emit=emit) for each in names]
    if len({tuple(sorted(model.checkpoint.classes)) for model in models}) > 1:
        raise ModelError(f"the models of {name!r} do not know the same classes, so they cannot be averaged")
    if len(models) > 1:
        newest = "" if name else ", the newest cross-validation"
        emit(Note(text=f"model: the mean of {len(models)} models{newest}: {names_of(models)}"))
    return models


def names_of(models: Sequence[LoadedModel]) -> str:
    """What models that are averaged are called."""
    return ", ".join(model.name for model in models)


def _meant_by(name: str, output_dir: Path, emit: Emit) -> list[str]:
    """The names, or paths, of the models to be averaged; without those that are not finished."""
    if set("*?[") & set(name):
        paths = sorted({Path(path) for each in (name, str(output_dir / name)) for path in glob.glob(each)})  # noqa: PTH207
        names = [str(path) for path in paths if (path / "run.json").is_file() or path.suffix == ".safetensors"]
        if not names:
            raise RunError(f"no run is called like {name!r} in {output_dir}")
        return names
    folds = _folds_called(name, output_dir) if name else folds_with(newest_finished(output_dir))
    finished = [fold for fold in folds if fold.status == "finished"]
    if unfinished := [f"{fold.name} ({fold.status})" for fold in folds if fold not in finished]:
        emit(Warned(text=f"left out of the mean: {', '.join(unfinished)}"))
    return [str(fold.path) for fold in finished] or [name]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadModel:
    """A model on disk."""

    checkpoint: Checkpoint
    path: Path
    run: Run | None


def read_model(name: str, *, output_dir: Path, offline: bool = False, emit: Emit) -> ReadModel:
    """Find a model, fetch it if need be, and read it.

    Args:
        name: a run's name or path, a file or folder of weights in any known format, the name of pretrained weights,
            ``hf:OWNER/NAME[@REVISION]`` on the Hugging Face hub, or an http address; empty: the newest finished run.
        output_dir: where runs are.
        offline: fetch nothing.
        emit: told what the format is and what had to be guessed.

    Raises:
        RunError, ModelError, DataError: it is not there, cannot be fetched, or cannot be read.
    """
    path = Path(name)
    if name and path.is_file():
        return _read(path, emit)
    if not name or is_run(name, output_dir):
        run = find_run(name, output_dir) if name else newest_finished(output_dir)
        checkpoint = _checkpoint_of(run)
        return ReadModel(checkpoint=load_checkpoint(checkpoint), path=checkpoint, run=run)
    if folds := _folds_called(name, output_dir):
        raise RunError(
            f"{name!r} is a cross-validation of {len(folds)} models, and here goes one",
            hint=f"name one of them: {name.rstrip('/')}/{folds[0].path.name}",
        )
    if entry := find_entry(name):
        file = fetch_weights(entry, weights_dir(), offline=offline, emit=emit)
        called = name if name in PRETRAINED else file.stem if entry.url else entry.hub.rpartition("/")[2]
        return _read(file, emit, traits=entry.traits, name=called)
    if path.is_dir():
        return _read(weights_in(path), emit)
    if path.suffix in {".safetensors", ".pth", ".pt", ".bin"}:
        raise ModelError(f"no such file: {name}", hint="`vit runs` lists the runs, `vit download` pretrained weights")
    known = [*(run.name for run in all_runs(output_dir)), *PRETRAINED]
    raise RunError(
        f"{name!r} is no run in {output_dir}, no file, and no name of pretrained weights",
        hint=did_you_mean(name, known, otherwise="`vit runs` lists the runs, `vit download` pretrained weights"),
    )


def _folds_called(name: str, output_dir: Path) -> list[Run]:
    """The runs of the cross-validation of this name or path; none: it is something else."""
    return folds_of(output_dir / name) or folds_of(Path(name))


def is_run(name: str, output_dir: Path) -> bool:
    """Whether a run has this name or path."""
    return any((path / "run.json").is_file() for path in (Path(name), output_dir / name))


def _checkpoint_of(run: Run) -> Path:
    for checkpoint in (run.best_checkpoint, run.checkpoint("last")):  # no best one when the first epoch was cut short
        if checkpoint.exists():
            return checkpoint
    raise RunError(f"run {run.name} has no checkpoint yet (it is {run.status})")


def _read(path: Path, emit: Emit, *, traits: Traits | None = None, name: str = "") -> ReadModel:
    """A file of weights: ours, or in any other known format."""
    if is_checkpoint(path):
        return ReadModel(checkpoint=load_checkpoint(path), path=path, run=run_of_checkpoint(path))
    foreign = read_foreign(path, traits, name=name)
    emit(Note(text=f"weights: {path}, in the format of {foreign.format}"))
    if foreign.left_over:
        emit(Note(text=f"left over, for vit has no place for it: {', '.join(foreign.left_over)}"))
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
