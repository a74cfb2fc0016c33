"""The settings that a user states, with every name and path in them checked; nothing here needs torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitcli.core.config import DataConfig, TrainConfig
from vitcli.core.config_files import Settings, configure, load_recipe, settings_of
from vitcli.core.devices import parse_device
from vitcli.core.errors import UsageError, did_you_mean
from vitcli.core.runs import check_free, check_no_run
from vitcli.data.registry import canonical_name
from vitcli.data.sources.paths import table_path
from vitcli.data.store import check_dataset
from vitcli.models.pretrained import PRETRAINED, pretrained_for
from vitcli.models.registry import MODELS
from vitcli.trained.model_names import find_model, teacher_path
from vitcli.training.loggers import require_loggers

TABLE = ("labels", "image_column", "label_column", "label_map")
"""Settings about a table of labels."""
HARMLESS: Settings = {"data": {"cache": "off"}, "teacher": {"name": ""}, "run": {"name": "", "device": "cpu"}}
"""Settings that win where nothing is trained: nothing is kept, no run is made, no GPU and no teacher is needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """Settings of a training that are known before its data set is opened."""

    layers: tuple[Settings, ...]
    """The settings that were typed, without an architecture where ``--pretrained`` has chosen one."""
    recipe: Settings
    """The named recipe's settings; empty: no recipe is named."""
    config: TrainConfig
    """The layers above the recipe, above the defaults."""
    init_from: str
    names_model: bool
    """True where an architecture was typed."""


def stated_settings(layers: Sequence[Settings]) -> Stated:
    """Merge what was typed with the recipe that it names, and check it.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: what is wrong in any case.
    """
    asked = configure(*layers)
    recipe = load_recipe(asked.run.recipe) if asked.run.recipe else {}
    config = configure(recipe, *layers)
    names_model = _names_model(layers)
    init_from = config.run.init_from
    if config.run.pretrained:
        init_from = _weights_for(asked, config, names_model=names_model or _names_model((recipe,)))
        layers = [_without_model_name(layer) for layer in layers]
        names_model = False
    _check(config, init_from=init_from, takes_architecture=bool(init_from) and not names_model)
    return Stated(layers=tuple(layers), recipe=recipe, config=config, init_from=init_from, names_model=names_model)


def stated_again(stored: TrainConfig, layers: Sequence[Settings]) -> list[Settings]:
    """Put what was typed above the settings of an earlier run, and check it; layers, the later the stronger.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: what is wrong in any case.
    """
    base = settings_of(stored)
    asked = configure(base, *layers)
    if canonical_name(asked.data.name) != stored.data.name:  # whose table is of no use
        base["data"] = {key: value for key, value in base["data"].items() if key not in TABLE}
        asked = configure(base, *layers)
    if asked.run.recipe != stored.run.recipe:
        raise UsageError("--recipe gives all settings, and so does --from-run", hint="leave one out")
    weights: Settings = {}
    if asked.run.pretrained:
        chosen = _weights_for(configure(*layers), asked, names_model=True)
        weights = {"run": {"init_from": chosen, "pretrained": False}}
    asked = configure(base, *layers, weights)
    _check(asked, init_from=asked.run.init_from, takes_architecture=asked.model.name == stored.model.name)
    return [base, *layers, weights]


def paths_of(data: DataConfig) -> dict[str, str]:
    """Give the files that settings name their whole paths."""
    given = {"labels": data.labels, "label_map": data.label_map}
    folder = Path(data.name).expanduser()
    return {key: str(table_path(folder, Path(value).expanduser()).resolve()) for key, value in given.items() if value}


def teacher_of(config: TrainConfig) -> str:
    """Name the teacher of a configuration, a file or folder by its absolute path; empty: there is none."""
    return teacher_path(config.teacher.name, Path(config.run.output_dir).expanduser())


def _check(config: TrainConfig, *, init_from: str, takes_architecture: bool) -> None:
    """Refuse names that do not exist, paths that are not there, and places that are taken."""
    parse_device(config.run.device)
    require_loggers(config.run)
    if not takes_architecture:
        MODELS[config.model.name]
    kind = config.optim.class_weights
    known = ("balanced", "effective")
    if kind not in {"", *known} and not Path(kind).expanduser().is_file():
        hint = f"{did_you_mean(kind, known)} expected: balanced, effective, or a JSON file".strip()
        raise UsageError(f"class_weights = {kind!r} is not a file", hint=hint)
    output_dir = Path(config.run.output_dir).expanduser()
    if config.run.name:
        path = output_dir / config.run.name
        if config.data.folds:
            check_no_run(path)
            path /= f"fold-{config.data.fold or 1}"
        check_free(path, overwrite=config.run.overwrite)
    check_dataset(config.data.name, labels=paths_of(config.data).get("labels", ""))
    for model in filter(None, (init_from, teacher_of(config))):
        find_model(model, output_dir)


def _weights_for(asked: TrainConfig, stated: TrainConfig, *, names_model: bool) -> str:
    """Name the weights that ``--pretrained`` means."""
    if asked.run.init_from:
        raise UsageError("--pretrained and --init-from both say where to start", hint="leave one out")
    if not names_model:
        return next(iter(PRETRAINED))
    if name := pretrained_for(stated.model.name):
        return name
    raise UsageError(f"there are no pretrained weights for {stated.model.name}", hint="`vit download` lists all")


def _names_model(layers: Sequence[Settings]) -> bool:
    """Tell whether an architecture is asked for."""
    return any("name" in layer.get("model", {}) for layer in layers)


def _without_model_name(layer: Settings) -> Settings:
    model: dict[str, Any] = {key: value for key, value in layer.get("model", {}).items() if key != "name"}
    return {**layer, "model": model}
