"""From what a user asked for to the whole configuration of a training run, and its data set."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitcli.core.config import DataConfig, TrainConfig
from vitcli.core.config_files import Settings, configure, load_recipe, settings_of
from vitcli.core.errors import UsageError, did_you_mean
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.runs import check_free, check_no_run
from vitcli.core.teacher_config import TeacherConfig
from vitcli.data.dataset import Dataset, canonical_name, open_dataset
from vitcli.data.registry import find_entry, full_name
from vitcli.data.sources.folder import table_path
from vitcli.data.store import data_dir, downloads, is_present
from vitcli.engine.device import choose_device
from vitcli.models.pretrained import PRETRAINED, pretrained_for
from vitcli.models.registry import MODELS
from vitcli.workflows.features import sees_images_once
from vitcli.workflows.loggers import mind_useless_steps, require_loggers
from vitcli.workflows.teacher import teacher_path

_TABLE = ("labels", "image_column", "label_column", "label_map")
"""Settings about a table of labels."""


def settle(layers: tuple[Settings, ...], emit: Emit) -> tuple[TrainConfig, Dataset]:
    """The whole configuration, and the data set that decides on the recipe where nobody else does.

    Where training starts from weights and no architecture is asked for, the model's name is empty: theirs is meant.

    Raises:
        UsageError, DataError, RunError, DeviceError: what is wrong in any case is said before data are prepared.
    """
    asked = configure(*layers)
    recipe = load_recipe(asked.run.recipe) if asked.run.recipe else {}
    stated = configure(recipe, *layers)
    names_model = _names_model(layers)
    init_from = stated.run.init_from
    if stated.run.pretrained:
        init_from = _weights_for(asked, stated, names_model=names_model or _names_model((recipe,)))
        layers = tuple(_without_model_name(layer) for layer in (layers))
        names_model = False
    _check_early(stated, takes_architecture=bool(init_from) and not names_model)
    directory = data_dir(stated.data.dir)
    name = full_name(stated.data.name)
    if not name:
        name, why = usual_dataset(directory)
        emit(Note(text=f"no data set given: training on {name} ({why})"))
    entry = find_entry(name)
    usual = load_recipe(entry.recipe) if entry and entry.recipe and not recipe else {}
    data = configure({"data": usual.get("data", {})}, *layers).data if usual else stated.data
    data = replace(data, name=name)
    paths = paths_of(data)
    data = replace(data, labels=paths.get("labels", ""), label_map=paths.get("label_map", ""))
    dataset = open_dataset(data, directory=directory, offline=stated.run.offline, emit=emit)
    _mind_what_changes_nothing(layers, data, dataset, emit)
    recipe_name, base = _recipe(stated, dataset, starts=bool(init_from), emit=emit)
    if not names_model:
        init_from = init_from or configure(*base, *layers).run.init_from
    chosen: dict[str, Mapping[str, Any]] = {
        "data": {**paths, "name": canonical_name(name), "dir": str(directory.resolve())},
        "run": {"recipe": recipe_name, "init_from": init_from, "pretrained": False},
    }
    if teacher := stated.teacher.name:
        chosen["teacher"] = {"name": teacher_path(teacher, Path(stated.run.output_dir).expanduser())}
    if init_from and not names_model:
        base = [_without_named_model(layer) for layer in base]
        chosen["model"] = {"name": ""}
    return _settled(base, *layers, chosen, emit=emit), dataset


def settle_again(stored: TrainConfig, layers: tuple[Settings, ...], emit: Emit) -> tuple[TrainConfig, Dataset]:
    """The settings of an earlier run with those that are given now above them, and the data set.

    Raises:
        UsageError, DataError, RunError, DeviceError: as ``settle``.
    """
    base = settings_of(stored)
    asked = configure(base, *layers)
    if canonical_name(asked.data.name) != stored.data.name:  # whose table is of no use
        base["data"] = {key: value for key, value in base["data"].items() if key not in _TABLE}
        asked = configure(base, *layers)
    if asked.run.recipe != stored.run.recipe:
        raise UsageError("--recipe gives all settings, and so does --from-run", hint="leave one out")
    chosen: dict[str, Mapping[str, Any]] = {}
    if asked.run.pretrained:
        weights = _weights_for(configure(*layers), asked, names_model=True)
        chosen["run"] = {"init_from": weights, "pretrained": False}
    _check_early(asked, takes_architecture=asked.model.name == stored.model.name)
    directory = data_dir(asked.data.dir)
    chosen["data"] = {**paths_of(asked.data), "name": canonical_name(asked.data.name), "dir": str(directory.resolve())}
    if teacher := asked.teacher.name:
        chosen["teacher"] = {"name": teacher_path(teacher, Path(asked.run.output_dir).expanduser())}
    config = _settled([base], *layers, chosen, emit=emit)
    dataset = open_dataset(config.data, directory=directory, offline=config.run.offline, emit=emit)
    _mind_what_changes_nothing(layers, config.data, dataset, emit)
    return config, dataset


def usual_dataset(directory: Path) -> tuple[str, str]:
    """The data set that is meant where none is named, and why."""
    asked = downloads(directory)
    here = [name for name in asked if is_present(name, directory)]
    gone = f"; {asked[0]}, which was downloaded last, is gone" if asked[:1] != here[:1] else ""
    return (here[0], f"downloaded last{gone}") if here else ("digits", f"bundled{gone}")


def _mind_what_changes_nothing(layers: tuple[Settings, ...], data: DataConfig, dataset: Dataset, emit: Emit) -> None:
    """Say which settings that were given do not matter to this data set."""
    given = {key for layer in layers for key, value in layer.get("data", {}).items() if value}
    name, counts = dataset.facts.name, dataset.facts.counts
    has_table = dataset.raw is not None and dataset.raw.values
    reasons = {
        f"{name} has no table of labels": () if has_table else _TABLE,
        f"{name} has splits of its own": ("test_fraction",) if len(counts) > 1 else (),
        f"{name} has a validation split": ("val_fraction",) if "val" in counts else (),
        "each fold validates in turn": ("val_fraction",) if data.folds and "val" not in counts else (),
    }
    for reason, keys in reasons.items():
        if useless := [f"--{key.replace('_', '-')}" for key in keys if key in given]:
            emit(Warned(text=f"{reason}, so this changes nothing: {', '.join(useless)}"))


def _settled(base: Sequence[Settings], *layers: Settings, emit: Emit) -> TrainConfig:
    """The configuration that layers make above those of nobody's choice, where its parts do not contradict each other."""
    config = before = configure(*base, *layers)
    if config.optim.optimizer == "schedule-free":  # does what these are for
        base = [*base, {"optim": {"schedule": "constant", "ema": False, "swa_epochs": 0}}]
        config = configure(*base, *layers)
        if config != before:
            emit(Note(text="schedule: constant, and no other average, since schedule-free averages the weights itself"))
    few = config.optim.lora or config.optim.train_only in {"head", "norm", "bias"}
    if few and config.optim.optimizer == "muon":  # which is for the matrices of whole blocks
        config = configure(*base, *layers, {"optim": {"optimizer": "adamw"}})
        emit(Note(text="optimizer: adamw, since no matrix of a block is trained"))
    if (few or config.optim.train_only) and not config.run.init_from:
        emit(Warned(text="most of the model stays as random as it starts: --init-from NAME or --pretrained is missing"))
    if not config.teacher.name and config.teacher != TeacherConfig():
        emit(Warned(text="without --teacher there is nothing to distil, so its other settings change nothing"))
    mind_useless_steps(config.run, emit)
    if config.optim.schedule != "one-cycle" and config.optim.warmup_epochs > config.optim.epochs / 2:
        emit(Note(text=f"warm-up: half of the {config.optim.epochs} epochs, not {config.optim.warmup_epochs:g}"))
    if sees_images_once(config) and config.run.grad_checkpointing:
        emit(Warned(text="--grad-checkpointing changes nothing: the backbone is frozen, and has no backward pass"))
    config.check_together()
    return config


def _recipe(stated: TrainConfig, dataset: Dataset, *, starts: bool, emit: Emit) -> tuple[str, list[Settings]]:
    """The recipe asked for; else the data set's; else, from weights on, one for that, with the data set's images."""
    if name := stated.run.recipe:
        return name, [load_recipe(name)]
    whose = f"the default for {dataset.facts.name}"
    if not starts:
        emit(Note(text=f"recipe: {dataset.recipe}, {whose}"))
        return dataset.recipe, [load_recipe(dataset.recipe)]
    is_probe = stated.optim.train_only == "head"
    name = "probe" if is_probe else "lora" if stated.optim.lora else "finetune"
    if is_probe and not stated.augment.feature_views:
        emit(Note(text=f"recipe: {name}; images as they are, so that the frozen backbone sees each only once"))
        return name, [load_recipe(name)]
    emit(Note(text=f"recipe: {name}, with the images of {dataset.recipe}, {whose}"))
    images = {key: table for key, table in load_recipe(dataset.recipe).items() if key in {"data", "augment"}}
    return name, [images, load_recipe(name)]


def _weights_for(asked: TrainConfig, stated: TrainConfig, *, names_model: bool) -> str:
    """What ``--pretrained`` means."""
    if asked.run.init_from:
        raise UsageError("--pretrained and --init-from both say where to start", hint="leave one out")
    if not names_model:
        return next(iter(PRETRAINED))
    if name := pretrained_for(stated.model.name):
        return name
    raise UsageError(f"there are no pretrained weights for {stated.model.name}", hint="`vit download` lists all")


def paths_of(data: DataConfig) -> dict[str, str]:
    """Files that settings name, as they are called from everywhere."""
    given = {"labels": data.labels, "label_map": data.label_map}
    folder = Path(data.name).expanduser()
    return {key: str(table_path(folder, Path(value).expanduser()).resolve()) for key, value in given.items() if value}


def _names_model(layers: tuple[Settings, ...]) -> bool:
    """Whether an architecture is asked for."""
    return any("name" in layer.get("model", {}) for layer in layers)


def _without_model_name(layer: Settings) -> Settings:
    model = {key: value for key, value in layer.get("model", {}).items() if key != "name"}
    return {**layer, "model": model}


def _without_named_model(layer: Settings) -> Settings:
    """Without the changes that a recipe makes to a model of its own."""
    return {name: table for name, table in layer.items() if name != "model" or "name" not in table}


def _check_early(stated: TrainConfig, *, takes_architecture: bool) -> None:
    """What is wrong in any case is said before a data set is fetched or prepared."""
    choose_device(stated.run.device)
    require_loggers(stated.run)
    if not takes_architecture:
        MODELS[stated.model.name]
    kind = stated.optim.class_weights
    known = ("balanced", "effective")
    if kind not in {"", *known} and not Path(kind).expanduser().is_file():
        hint = f"{did_you_mean(kind, known)} expected: balanced, effective, or a JSON file".strip()
        raise UsageError(f"class_weights = {kind!r} is no file", hint=hint)
    if stated.run.name:
        path = Path(stated.run.output_dir).expanduser() / stated.run.name
        if stated.data.folds:
            check_no_run(path)
            path /= f"fold-{stated.data.fold or 1}"
        check_free(path, overwrite=stated.run.overwrite)
