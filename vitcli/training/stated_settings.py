"""The settings that a user gave, with every name and path checked; nothing here needs torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, configure, load_recipe, settings_of
from vitcli.core.devices import parse_device
from vitcli.core.errors import FileError, ModelError, UsageError, did_you_mean
from vitcli.core.files import expanded
from vitcli.core.groups import member_folder, members_of_settings, with_first_seed
from vitcli.core.run_folders import check_no_run
from vitcli.core.runs import check_free
from vitcli.data.registry import canonical_name
from vitcli.data.store import check_dataset, located
from vitcli.models.pretrained import PRETRAINED, pretrained_for
from vitcli.models.registry import MODELS
from vitcli.trained.model_names import find_model, lasting_name
from vitcli.training.loggers import require_loggers

TABLE = ("labels", "image_column", "label_column", "label_map")
"""Settings about a table of labels."""
HARMLESS: Settings = {"data": {"cache": "off"}, "teacher": {"name": ""}, "run": {"name": "", "device": "auto"}}
"""Settings for commands that do not train: nothing is stored, no run is made, and no particular GPU or teacher is needed."""

KINDS_OF_WEIGHTS = ("balanced", "effective")
"""Ways to weigh classes that are no file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stated:
    """The settings of a training that are known before its data set is opened."""

    layers: tuple[Settings, ...]
    """The given settings; without the architecture, if ``--pretrained`` has chosen weights for it."""
    recipe: Settings
    """The settings of the given recipe; empty: no recipe was given."""
    config: TrainConfig
    """The configuration: defaults, then the recipe, then the layers; later ones win."""
    init_from: str
    names_model: bool
    """True if an architecture was given, and not replaced by that of ``--pretrained`` weights."""


def stated_settings(layers: Sequence[Settings]) -> Stated:
    """Merge the given settings with the recipe that they name, and check them.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: a setting is wrong whatever the data are.
    """
    layers = with_first_seed(layers)
    asked = configure(*layers)
    recipe = load_recipe(asked.run.recipe) if asked.run.recipe else {}
    config = configure(recipe, *layers)
    names_model = names_a_model(layers)
    init_from = lasting_name(config.run.init_from, expanded(config.run.output_dir))
    if config.run.pretrained:
        init_from = _weights_for(asked, config, names_model=names_model or names_a_model((recipe,)))
        layers = [_without_model_name(layer) for layer in layers]
        names_model = False
    _check(config, init_from=init_from, takes_architecture=bool(init_from) and not names_model)
    return Stated(layers=tuple(layers), recipe=recipe, config=config, init_from=init_from, names_model=names_model)


def stated_again(stored: TrainConfig, layers: Sequence[Settings]) -> list[Settings]:
    """Put the given settings over the settings of an earlier run, check them, and return the layers; later ones win.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: a setting is wrong whatever the data are.
    """
    base = settings_of(stored)
    asked = configure(base, *layers)
    if canonical_name(asked.data.name) != stored.data.name:  # the table of labels belongs to the other data
        base["data"] = {key: value for key, value in base["data"].items() if key not in TABLE}
        asked = configure(base, *layers)
    if asked.run.recipe != stored.run.recipe:
        raise UsageError("--recipe and --from-run both give all settings", hint="leave one out")
    chosen = lasting_name(asked.run.init_from, expanded(asked.run.output_dir))
    if asked.run.pretrained:
        chosen = _weights_for(configure(*layers), asked, names_model=True)
    weights: Settings = {}
    if chosen != asked.run.init_from:
        weights = {"run": {"init_from": chosen, "pretrained": False}}
    asked = configure(base, *layers, weights)
    _check(asked, init_from=asked.run.init_from, takes_architecture=asked.model.name == stored.model.name)
    return [base, *layers, weights]


def teacher_of(config: TrainConfig) -> str:
    """Return the name of the teacher, or the absolute path of its file or folder; empty: there is no teacher."""
    return lasting_name(config.teacher.name, expanded(config.run.output_dir))


def class_weights_of(config: TrainConfig) -> str:
    """Return how classes are weighed; the path of a file is absolute, for use in any working directory."""
    kind = config.optim.class_weights
    return kind if kind in {"", *KINDS_OF_WEIGHTS} else str(expanded(kind).resolve())


def _check(config: TrainConfig, *, init_from: str, takes_architecture: bool) -> None:
    """Refuse names and paths that do not exist, and a run name that is already used."""
    parse_device(config.run.device)
    require_loggers(config.run)
    if not takes_architecture:
        MODELS[config.model.name]
    kind = config.optim.class_weights
    if kind not in {"", *KINDS_OF_WEIGHTS} and not expanded(kind).is_file():
        hint = f"{did_you_mean(kind, KINDS_OF_WEIGHTS)} expected: balanced, effective, or a JSON file".strip()
        raise FileError(f"class_weights = {kind!r} is not a file", hint=hint)
    output_dir = expanded(config.run.output_dir)
    if config.run.name:
        path = output_dir / config.run.name
        if member := next(iter(members_of_settings(config)), member_folder(config)):
            check_no_run(path)
            path /= member
        check_free(path, overwrite=config.run.overwrite)
    check_dataset(config.data.name, labels=located(config.data).get("labels", ""), output_dir=output_dir)
    find_models(config, init_from=init_from)


def find_models(config: TrainConfig, *, init_from: str) -> None:
    """Raise ModelError, RunError or UsageError if the weights that training begins with, or its teacher, do not exist."""
    for model in filter(None, (init_from, teacher_of(config))):
        find_model(model, expanded(config.run.output_dir))


def _weights_for(asked: TrainConfig, stated: TrainConfig, *, names_model: bool) -> str:
    """Return the name of the weights that ``--pretrained`` chooses."""
    if asked.run.init_from:
        raise UsageError("--pretrained and --init-from both say where to start", hint="leave one out")
    if not names_model:
        return next(iter(PRETRAINED))
    if name := pretrained_for(stated.model.name):
        return name
    raise ModelError(f"there are no pretrained weights for {stated.model.name}", hint="`vit download` lists all")


def names_a_model(layers: Sequence[Settings]) -> bool:
    """Tell whether any layer names an architecture."""
    return any("name" in layer.get("model", {}) for layer in layers)


def _without_model_name(layer: Settings) -> Settings:
    model: dict[str, Any] = {key: value for key, value in layer.get("model", {}).items() if key != "name"}
    return {**layer, "model": model}
