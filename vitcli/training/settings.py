"""The complete configuration of a training and its data set, from the settings that a user gave."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitcli.core.config import DataConfig, TrainConfig
from vitcli.core.config_files import Settings, configure, load_recipe, recipe_file
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.files import expanded
from vitcli.core.model_config import OF_THE_WEIGHTS
from vitcli.core.optim_config import OptimConfig
from vitcli.core.teacher_config import TeacherConfig
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.raw import NO_CLASSES
from vitcli.data.registry import find_dataset, full_name
from vitcli.data.store import data_dir, downloads, is_present, located, tell_of_folder
from vitcli.data.submission import competition_folder
from vitcli.engine.device import choose_device
from vitcli.engine.timing import mixed_dtype
from vitcli.training.loggers import mind_useless_steps
from vitcli.training.pretraining_saving import recipe_of_pretrained
from vitcli.training.recipe import choose_recipe, with_enough_epochs, with_enough_validation
from vitcli.training.stated_settings import TABLE, class_weights_of, stated_again, stated_settings, teacher_of


def settle(
    layers: tuple[Settings, ...], emit: Emit, *, labelled: bool = True
) -> tuple[TrainConfig, Dataset, list[Settings]]:
    """Build the complete configuration and open the data set, which decides on the recipe if none is given.

    Args:
        layers: the given settings; later layers win.
        emit: receives notes and warnings.
        labelled: the images need labels; False: a folder may have any layout, and all its images are used.

    Returns:
        The configuration, the data set, and the layers of settings that the configuration was made of.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: a setting is wrong; errors that do not depend on the
            data are raised before any data are prepared.
    """
    known = stated_settings(layers)
    stated, layers, init_from = known.config, known.layers, known.init_from
    device = choose_device(stated.run.device)
    directory = data_dir(stated.data.dir)
    name = full_name(stated.data.name)
    tell_of_folder(name, emit)
    if not name:
        name, why = usual_dataset(directory)
        emit(Note(text=f"no data set given: training on {name} ({why})"))
    entry = find_dataset(name)
    usual = load_recipe(entry.recipe) if entry and entry.recipe and not known.recipe else {}
    data = configure({"data": usual.get("data", {})}, *layers).data if usual else stated.data
    data = replace(data, **(located(replace(data, name=name)) | {"name": name}))
    dataset = open_dataset(data, directory=directory, offline=stated.run.offline, labelled=labelled, emit=emit)
    _mind_what_changes_nothing(layers, data, dataset, emit)
    recipe_name, base = choose_recipe(
        layers,
        dataset,
        starts=bool(init_from),
        of_weights=recipe_of_pretrained(init_from, expanded(stated.run.output_dir)),
        device=device.type,
        emit=emit,
    )
    if not known.names_model:
        init_from = init_from or configure(*base, *layers).run.init_from
    chosen: dict[str, Mapping[str, Any]] = {
        "data": {**located(data), "dir": str(directory.resolve())},
        "run": {"recipe": str(recipe_file(recipe_name) or recipe_name), "init_from": init_from, "pretrained": False},
    }
    if weights := class_weights_of(stated):
        chosen["optim"] = {"class_weights": weights}
    if teacher := teacher_of(stated):
        chosen["teacher"] = {"name": teacher}
    if init_from and not known.names_model:
        base = [_without_named_model(layer) for layer in base]
        chosen["model"] = {"name": OF_THE_WEIGHTS}
    judged_on = competition_folder(dataset) if set(dataset.facts.counts) == {"train"} else None
    if judged_on or dataset.facts.classes == NO_CLASSES:
        base = [{"about": {"source": "chosen"}, "data": {"test_fraction": 0.0}}, *base]
    if not recipe_file(recipe_name):  # a share in a user's own recipe was chosen for the data
        base = with_enough_validation(base, layers, dataset, emit)
    base = with_enough_epochs(base, layers, dataset, emit)
    config = _settled(base, *layers, chosen, emit=emit)
    if judged_on and not config.data.test_fraction:
        why = f"the competition judges on {judged_on.name}/, so no labelled images are held out for testing"
        emit(Note(text=f"{why}; --test-fraction 0.2 holds some out"))
    return config, dataset, [*base, *layers, *_sources(stated.data, config.data)]


def _sources(stated: DataConfig, settled: DataConfig) -> Iterator[Settings]:
    """Say where the names of the data set and of the folder are from, which were completed since they were stated."""
    variable = "$VIT_DATA_DIR" if os.environ.get("VIT_DATA_DIR") else "default"
    sources = {"name": "given" if stated.name else "chosen", "dir": "given" if stated.dir else variable}
    for key, source in sources.items():
        yield {"about": {"source": source}, "data": {key: getattr(settled, key)}}


def settle_again(stored: TrainConfig, layers: tuple[Settings, ...], emit: Emit) -> tuple[TrainConfig, Dataset]:
    """Build the configuration of an earlier run, changed by the given layers, and open the data set.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: as ``settle``.
    """
    base, *changes = stated_again(stored, layers)
    asked = configure(base, *changes)
    choose_device(asked.run.device)
    directory = data_dir(asked.data.dir)
    chosen: dict[str, Mapping[str, Any]] = {"data": {**located(asked.data), "dir": str(directory.resolve())}}
    if weights := class_weights_of(asked):
        chosen["optim"] = {"class_weights": weights}
    if teacher := teacher_of(asked):
        chosen["teacher"] = {"name": teacher}
    config = _settled([base], *changes, chosen, emit=emit)
    dataset = open_dataset(config.data, directory=directory, offline=config.run.offline, emit=emit)
    _mind_what_changes_nothing(layers, config.data, dataset, emit)
    return config, dataset


def usual_dataset(directory: Path) -> tuple[str, str]:
    """Return the data set to use if none is given, and the reason: the one downloaded last, else the digits."""
    asked = downloads(directory)
    here = [name for name in asked if is_present(name, directory)]
    gone = f"; {asked[0]}, which was downloaded last, is gone" if asked[:1] != here[:1] else ""
    return (here[0], f"downloaded last{gone}") if here else ("digits", f"bundled{gone}")


_SET_ONLY = {
    *("value_range", "resize", "crop_fraction", "interpolation", "min_lr", "momentum", "adamw_lr", "betas"),
    *("policy_ops", "policy_magnitude", "crop_ratio", "zoom_law", "border", "affine_probability", "colour_probability"),
    *("dropout", "embedding_dropout", "attention_dropout"),
}
"""Settings that have no option of their own."""


def _mind_what_changes_nothing(layers: tuple[Settings, ...], data: DataConfig, dataset: Dataset, emit: Emit) -> None:
    """Warn of given settings that have no effect on this data set."""
    given = {key for layer in layers for key, value in layer.get("data", {}).items() if value}
    name, counts = dataset.facts.name, dataset.facts.counts
    has_table = dataset.raw is not None and dataset.raw.values
    reasons = {
        f"{name} has no table of labels": () if has_table else TABLE,
        f"{name} has splits of its own": ("test_fraction",) if len(counts) > 1 else (),
        f"{name} has a validation split": ("val_fraction",) if "val" in counts else (),
        "each fold validates in turn": ("val_fraction",) if data.folds and "val" not in counts else (),
        "test images validate": ("val_fraction",) if data.val_split == "test" else (),
        f"{name} has no images with more than 8 bits": () if dataset.facts.value_range else ("value_range",),
        f"{name} has images of one small size, which are used whole": (
            ("resize", "crop_fraction", "interpolation") if dataset.facts.native_size else ()
        ),
    }
    for reason, keys in reasons.items():
        if useless := [_as_typed(f"data.{key}") for key in keys if key in given]:
            emit(Warned(text=f"{reason}, so this changes nothing: {', '.join(useless)}"))


def _mind_useless_options(layers: Sequence[Settings], config: TrainConfig, emit: Emit) -> None:
    """Warn of given settings that have no effect beside others."""
    given = {f"{section}.{key}" for layer in layers for section, table in layer.items() for key in table}
    schedule, optimizer = config.optim.schedule, config.optim.optimizer
    is_head, device = config.optim.train_only == "head", choose_device(config.run.device).type
    tries_it = config.run.amp != "auto" or mixed_dtype(device, config.run.amp_dtype, has_bfloat16=True) is not None
    augment, alpha = config.augment, config.teacher.alpha if config.teacher.name else 0
    moves = augment.rotate or augment.zoom or augment.shift or augment.shear
    colours = augment.brightness or augment.brightness_offset or augment.contrast or augment.saturation or augment.hue
    drops = tuple(f"model.{name}" for name in ("drop_path", "dropout", "embedding_dropout", "attention_dropout"))
    rows = (
        (drops, not is_head, "--train-only head, because frozen layers drop nothing"),
        (("optim.label_smoothing", "optim.class_weights"), alpha < 1, "--distillation-alpha 1"),
        (("augment.mixup", "augment.cutmix"), config.optim.batch_size > 1, "--batch-size 1"),
        (("augment.policy_ops", "augment.policy_magnitude"), augment.policy == "rand", f"policy {augment.policy}"),
        (("augment.crop_ratio",), augment.crop_scale < 1, "crop_scale 1"),
        (("augment.zoom_law",), augment.zoom, "zoom 0"),
        (("augment.border", "augment.affine_probability"), moves, "no rotation, zoom, shift or shear"),
        (("augment.colour_probability",), colours, "no change of colours"),
        (("optim.gamma", "optim.step_size"), schedule == "step", f"--sched {schedule}"),
        (("optim.min_lr",), schedule == "cosine", f"--sched {schedule}"),
        (("optim.warmup_epochs",), schedule != "one-cycle", "--sched one-cycle, which warms up in its own way"),
        (("optim.momentum",), optimizer == "sgd", f"--opt {optimizer}"),
        (("optim.adamw_lr",), optimizer == "muon", f"--opt {optimizer}"),
        (("optim.betas",), optimizer != "sgd", f"--opt {optimizer}"),
        (("optim.ema_decay",), config.optim.ema, "--no-ema"),
        (("run.amp_dtype",), config.run.amp != "off", "--amp off"),
        (("teacher.temperature",), config.teacher.kind != "hard", "--distillation hard"),
        (("optim.lr",), not (is_head and config.optim.head_lr), "--head-lr, because only the head is trained"),
        (("optim.layer_decay",), not is_head, "--train-only head"),
        (("run.amp_dtype",), tries_it, f"--amp auto on this device ({device}), which computes in float32"),
    )
    for settings, counts, beside in rows:
        if useless := [_as_typed(setting) for setting in settings if setting in given and not counts]:
            emit(Warned(text=f"{', '.join(useless)} {'has' if len(useless) == 1 else 'have'} no effect with {beside}"))
    if config.optim.patience and config.optim.swa_epochs:
        emit(Note(text="if --patience ends training early, no weights are averaged (--swa-epochs)"))


def _tell_other_rate(usual: OptimConfig, layers: Sequence[Settings], optim: OptimConfig, emit: Emit) -> None:
    """Say that a given learning rate is that of muon alone."""
    given = {key for layer in layers for key in layer.get("optim", {})}
    is_of_muon = optim.optimizer == usual.optimizer == "muon" and optim.peak_lr != usual.peak_lr
    if is_of_muon and "lr" in given and "adamw_lr" not in given:
        alike = optim.adamw_lr * optim.peak_lr / usual.peak_lr
        kept = f"the weights that muon does not train keep the rate {optim.adamw_lr:g}"
        emit(Note(text=f"--lr: {kept}; --set optim.adamw_lr={alike:.3g} changes it in proportion"))


def _as_typed(setting: str) -> str:
    """Return the option of a setting, or its name for --set if it has none."""
    key = setting.partition(".")[2].replace("temperature", "distillation_temperature")
    return setting if key in _SET_ONLY else f"--{key.replace('_', '-')}"


def _settled(base: Sequence[Settings], *layers: Settings, emit: Emit) -> TrainConfig:
    """Merge the given layers over the defaults and resolve conflicts."""
    config = before = configure(*base, *layers)
    if config.optim.optimizer == "schedule-free":  # replaces the schedule and other averages
        base = [*base, {"optim": {"schedule": "constant", "ema": False, "swa_epochs": 0}}]
        config = configure(*base, *layers)
        if config != before:
            emit(Note(text="schedule: constant, and no other average: schedule-free averages the weights itself"))
    few = config.optim.lora or config.optim.train_only in {"head", "norm", "bias"}
    if few and config.optim.optimizer == "muon":  # muon is for the matrices of blocks, which are not trained here
        rate = config.optim.peak_lr
        config = configure(*base, *layers, {"optim": {"optimizer": "adamw"}})
        emit(Note(text="optimizer: adamw, because no matrix of a block is trained"))
        if any("lr" in layer.get("optim", {}) for layer in layers) and config.optim.peak_lr != rate:
            emit(
                Warned(
                    text=f"--lr {rate:g} was meant for muon, so it is not used; adamw takes {config.optim.peak_lr:g}"
                )
            )
    if (few or config.optim.train_only) and not config.run.init_from:
        emit(Warned(text="most of the model keeps random weights: --init-from NAME or --pretrained is missing"))
    if not config.teacher.name and config.teacher != TeacherConfig():
        emit(Warned(text="without --teacher there is nothing to distil, so its other settings change nothing"))
    mind_useless_steps(config.run, emit)
    _mind_useless_options(layers, config, emit)
    _tell_other_rate(configure(*base).optim, layers, config.optim, emit)
    if config.optim.warmup != config.optim.warmup_epochs:
        optim = config.optim
        half = "half an epoch" if optim.epochs == 1 else f"{optim.warmup:g} of {optim.epochs} epochs"
        is_cut = optim.swa_epochs and optim.warmup < optim.epochs / 2
        why = "the weights of the last epochs are averaged" if is_cut else "training is short"
        emit(Note(text=f"warm-up: {half}, not {optim.warmup_epochs:g}, because {why}"))
    config.check_together()
    if config.optim.train_only == "head" and config.optim.head_lr:  # the rate of all that is trained
        config = replace(config, optim=replace(config.optim, lr=config.optim.head_lr, head_lr=0.0))
    if config.sees_images_once and config.run.grad_checkpointing:
        emit(Warned(text="--grad-checkpointing changes nothing: the backbone is frozen, and has no backward pass"))
    return config


def _without_named_model(layer: Settings) -> Settings:
    """Remove a recipe's model settings if they name an architecture."""
    return {name: table for name, table in layer.items() if name != "model" or "name" not in table}
