"""Settings from recipes, files and flags, merged and checked: defaults < recipe < --config file < flags.

Settings are plain nested tables, ``{"optim": {"lr": 0.01}, "model": {"name": "vit-nano-patch4"}}``, until
``configure`` turns them into a TrainConfig. Every key and value is checked there, wherever it came from.
"""

import functools
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vitcli.core.config import TrainConfig
from vitcli.core.errors import UsageError, did_you_mean
from vitcli.core.model_config import ModelChoice, ModelConfig

Settings = Mapping[str, Mapping[str, Any]]

_ABOUT = "about"
"""The table that opens a recipe: command, time, accuracy; for readers only."""


def configure(*layers: Settings) -> TrainConfig:
    """Merge layers of settings, the later the stronger, into a checked TrainConfig.

    Raises:
        UsageError: an unknown section or key (with the nearest known one), or a value of the wrong kind.
    """
    sections = {section.name: section.type for section in fields(TrainConfig)}
    merged: dict[str, dict[str, Any]] = {name: {} for name in sections}
    for layer in layers:
        for name, table in layer.items():
            if name == _ABOUT:
                continue
            if name not in sections:
                _unknown("section", name, sections)
            if not isinstance(table, Mapping):
                raise UsageError(f"{name} = {table!r} is not a section", hint=f"write it as [{name}], with keys below")
            merged[name] |= _without_what_belongs_to_another(layers, name, table)
    built = {name: _build(sections[name], name, table) for name, table in merged.items()}
    return TrainConfig(**built)


def _without_what_belongs_to_another(
    layers: Iterable[Settings], section: str, table: Mapping[str, Any]
) -> Mapping[str, Any]:
    """A recipe's changes to its model do not suit the model that a flag names, nor its rate another optimizer."""
    belongings = {"model": ("name", table.keys()), "optim": ("optimizer", {"lr"})}
    if section not in belongings:
        return table
    owner, owned = belongings[section]
    chosen = [layer[section][owner] for layer in layers if owner in layer.get(section, ())]
    if table.get(owner) in {None, *chosen[-1:]}:
        return table
    return {key: value for key, value in table.items() if key not in owned}


def settings_of(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """The inverse of ``configure``: plain tables, ready for JSON or TOML."""
    settings: dict[str, dict[str, Any]] = asdict(config)
    settings["model"] = {"name": config.model.name, **config.model.changes}
    return settings


def recipe_names() -> list[str]:
    """The names of the recipes that ship with the package."""
    return sorted(
        entry.name.removesuffix(".toml") for entry in _recipe_folder().iterdir() if entry.name.endswith(".toml")
    )


def load_recipe(name: str) -> dict[str, dict[str, Any]]:
    """The settings of a shipped recipe, its ``about`` table included."""
    names = recipe_names()
    if name not in names:
        _unknown("recipe", name, names)
    return tomllib.loads((_recipe_folder() / f"{name}.toml").read_text(encoding="utf-8"))


def load_config_file(path: Path) -> dict[str, dict[str, Any]]:
    """The settings of a TOML file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"no such config file: {path}", hint="--config takes a TOML file, --recipe a name of `vit recipes`"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}") from None


def parse_assignments(assignments: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Settings from ``section.key=value`` words; a value is TOML or a bare word, as its key wants it."""
    settings: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        section, dot, field = key.strip().partition(".")
        if not (equals and dot and section and field):
            raise UsageError(
                f"--set {assignment!r} is not of the form section.key=value", hint="for example --set optim.lr=0.01"
            )
        settings.setdefault(section, {})[field] = _Word(text.strip())
    return settings


def layers_of(
    flags: Mapping[str, Mapping[str, Any]], *, config: Path | None = None, assignments: Iterable[str] = ()
) -> list[Settings]:
    """Turn what was typed into layers of settings: a TOML file, and above it ``--set`` words and flags; None: not given.

    Raises:
        UsageError: no such file, no TOML, or a word that is not an assignment.
    """
    words = parse_assignments(assignments)
    given = {name: {key: value for key, value in table.items() if value is not None} for name, table in flags.items()}
    top = {name: words.get(name, {}) | given.get(name, {}) for name in words.keys() | given.keys()}
    return [*([load_config_file(config)] if config else []), top]


def _recipe_folder() -> Any:
    return resources.files("vitcli") / "recipes"


class _Word(str):
    """A value as it was typed on the command line: what it means depends on the kind that its key wants."""

    __slots__ = ()

    def as_kind(self, kind: Any) -> Any:
        """Text stays what it is, unless it is quoted; everything else is read as TOML."""
        try:
            value = tomllib.loads(f"value = {self}")["value"]
        except tomllib.TOMLDecodeError:
            return str(self)
        return str(self) if kind is str and not isinstance(value, str) else value


def _unknown(kind: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    raise UsageError(f"unknown {kind} {name!r}", hint=did_you_mean(name, known, otherwise=f"known: {', '.join(known)}"))


_kinds_of = functools.cache(get_type_hints)


def _build(section: Any, name: str, table: Mapping[str, Any]) -> Any:
    """One section's dataclass from its table."""
    kinds = _kinds_of(ModelConfig if section is ModelChoice else section)
    values = {}
    for key, value in table.items():
        if key not in kinds:
            _unknown("key", f"{name}.{key}", [f"{name}.{known}" for known in kinds])
        values[key] = _convert(value, kinds[key], f"{name}.{key}")
    if section is ModelChoice:
        chosen = {"name": values.pop("name")} if "name" in values else {}
        return ModelChoice(**chosen, changes=values)
    try:
        return section(**values)
    except UsageError as error:
        key = error.message.partition(" = ")[0]
        if error.hint == UsageError.usual_hint and key in values:
            usual = getattr(section(), key) or "one"
            error.hint = f"leave {name}.{key} out for the recipe's, or the usual {usual}"
        raise


def _convert(value: Any, kind: Any, key: str) -> Any:
    """``value`` as ``kind``, where no information is lost; else UsageError."""
    if isinstance(value, _Word):
        value = value.as_kind(kind)
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Literal:
        if isinstance(value, bool) and "on" in inner:
            value = "on" if value else "off"
        if value in inner:
            return value
        raise UsageError(
            f"{key} = {value!r} is not one of {', '.join(map(str, inner))}", hint=did_you_mean(str(value), inner)
        )
    if origin is tuple:
        return _convert_pair(value, inner[0], key)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if type(value) is kind:
        return value
    wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
    raise UsageError(f"{key} = {value!r} is not {wanted}")


def _convert_pair(value: Any, kind: Any, key: str) -> Any:
    """A pair from a list of two, one number for both, or ``HEIGHTxWIDTH``."""
    if isinstance(value, str):
        value = [_Word(part) for part in value.lower().split("x")]
    elif not isinstance(value, list | tuple):
        value = [value]
    if len(value) == 1:
        value = [*value, *value]
    if len(value) != 2:
        raise UsageError(f"{key} = {value!r} is not one number or a pair", hint="for example 32, or 32x48")
    first, second = (_convert(part, kind, key) for part in value)
    return first, second
