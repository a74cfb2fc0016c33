"""Settings from recipes, files and flags, merged and checked.

The order of sources is defaults, recipe, --config file, flags; later sources win. Settings are plain nested tables,
``{"optim": {"lr": 0.01}, "model": {"name": "vit-nano-patch4"}}``, until ``configure`` turns them into a TrainConfig. It
checks every key and value, whatever the source.
"""

import functools
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from vitcli.core.config import TrainConfig
from vitcli.core.errors import FileError, UsageError, did_you_mean, nearest
from vitcli.core.files import expanded
from vitcli.core.model_config import ModelChoice, ModelConfig
from vitcli.core.optim_config import USUAL_LR

Settings = Mapping[str, Mapping[str, Any]]

_SECTIONS: dict[str, Any] = {section.name: section.type for section in fields(TrainConfig)}
_ABOUT = "about"
"""First table of a recipe, for readers only: command, time and accuracy; of any layer: the name of its source."""


def configure(*layers: Settings) -> TrainConfig:
    """Merge layers of settings into a checked TrainConfig; later layers win.

    Raises:
        UsageError: an unknown section or key (with the nearest known one), or a value of the wrong kind.
    """
    built = {
        name: _build(_SECTIONS[name], name, {key: value for key, (value, _) in table.items()})
        for name, table in _merged(layers).items()
    }
    return TrainConfig(**built)


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """The value of a setting, and where it is from."""

    value: Any
    """The value; its type depends on the setting."""
    source: str
    """``recipe NAME``, ``--config FILE``, ``given`` (an option, --set or an argument), ``default``, ``$VIT_DATA_DIR``,
    or ``chosen`` to suit the data and the device."""


def resolved(config: TrainConfig, layers: Sequence[Settings]) -> dict[str, dict[str, Setting]]:
    """List the settings of a configuration by section and key, each with its source.

    Args:
        config: the configuration.
        layers: the layers of settings that it was made of; ``{"about": {"source": NAME}}`` names a layer.
    """
    merged, stated = _merged(layers), settings_of(configure(*layers))

    def source(section: str, key: str, value: Any) -> str:
        if key not in stated[section] or stated[section][key] != value:
            return "chosen"
        if key not in merged[section]:
            return "default"
        _, layer = merged[section][key]
        return str(layer.get(_ABOUT, {}).get("source", "given"))

    return {
        section: {key: Setting(value=value, source=source(section, key, value)) for key, value in table.items()}
        for section, table in settings_of(config).items()
    }


def _merged(layers: Sequence[Settings]) -> dict[str, dict[str, tuple[Any, Settings]]]:
    """Merge layers; return by section and key the value and the layer that it is from."""
    merged: dict[str, dict[str, tuple[Any, Settings]]] = {name: {} for name in _SECTIONS}
    for layer in layers:
        for name, table in layer.items():
            if name == _ABOUT:
                continue
            if name not in _SECTIONS:
                full = "" if isinstance(table, Mapping) else setting_called(name)
                if full:
                    raise UsageError(f"{name!r} is not in a section", hint=f"did you mean {full!r}?")
                _unknown("section", name, _SECTIONS)
            if not isinstance(table, Mapping):
                raise UsageError(f"{name} = {table!r} is not a section", hint=f"write it as [{name}], with keys below")
            own = _without_what_belongs_to_another(layers, name, table)
            merged[name] |= {key: (value, layer) for key, value in own.items()}
    return merged


def _without_what_belongs_to_another(
    layers: Iterable[Settings], section: str, table: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Drop a layer's model changes, or its learning rate, if a later layer names another model or optimizer."""
    belongings = {"model": ("name", table.keys()), "optim": ("optimizer", {"lr"})}
    if section not in belongings:
        return table
    owner, owned = belongings[section]
    chosen = [layer[section][owner] for layer in layers if owner in layer.get(section, ())]
    if table.get(owner) in {None, *chosen[-1:]}:
        return table
    return {key: value for key, value in table.items() if key not in owned}


def settings_of(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """Turn a configuration back into plain tables, ready for JSON or TOML: the inverse of ``configure``."""
    settings: dict[str, dict[str, Any]] = asdict(config)
    settings["model"] = {"name": config.model.name, **config.model.changes}
    return settings


def recipe_names() -> list[str]:
    """List the names of the recipes in the package."""
    names = (entry.name for entry in _recipe_folder().iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def recipe_file(name: str) -> Path | None:
    """Return the absolute path of a recipe that is given as a file, such as ``./recipe.toml``; None: it is a name."""
    return expanded(name).resolve() if name.endswith(".toml") or {"/", os.sep} & set(name) else None


def load_recipe(name: str) -> dict[str, dict[str, Any]]:
    """Load the settings of a recipe, or of a file of your own, including its ``about`` table."""
    if path := recipe_file(name):
        recipe = load_config_file(path, what="recipe")
    else:
        if name not in (names := recipe_names()):
            _unknown("recipe", name, names)
        recipe = tomllib.loads((_recipe_folder() / f"{name}.toml").read_text(encoding="utf-8"))
    about = recipe.get(_ABOUT)
    return {**recipe, _ABOUT: {**(about if isinstance(about, dict) else {}), "source": f"recipe {name}"}}


def load_config_file(path: Path, *, what: str = "config") -> dict[str, dict[str, Any]]:
    """Load the settings of a TOML file; ``what`` is said of a file that is missing."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise FileError(
            f"no such {what} file: {path}",
            hint="--config takes a TOML file, --recipe a name of `vit recipes` or a TOML file",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(
            f"{path} is not a TOML file: {error}", hint="a TOML file has lines such as [optim], and below it lr = 0.01"
        ) from None


def parse_assignments(
    assignments: Iterable[str], *, flag: str = "--set", example: str = "for example --set optim.lr=0.01"
) -> dict[str, dict[str, Any]]:
    """Parse ``section.key=value`` words into settings; a value is TOML or a bare word, depending on its key."""
    settings: dict[str, dict[str, Any]] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        section, dot, field = key.strip().partition(".")
        if not (equals and dot and section and field):
            full = setting_called(section) if equals and not dot else ""
            raise UsageError(
                f"{flag} {assignment!r} is not of the form section.key=value",
                hint=f"did you mean {flag} {full}={text}?" if full else example,
            )
        settings.setdefault(section, {})[field] = _Word(text.strip())
    return settings


def layers_of(
    flags: Mapping[str, Mapping[str, Any]], *, config: Path | None = None, assignments: Iterable[str] = ()
) -> list[Settings]:
    """Turn command-line input into layers of settings: a TOML file, then ``--set`` words and flags, which win over it.

    Args:
        flags: settings by section and key; None: the flag was not given.
        config: path of the TOML file.
        assignments: ``--set`` words.

    Raises:
        FileError: a file that does not exist or is not TOML.
        UsageError: a word that is not an assignment.
    """
    words = parse_assignments(assignments)
    given = {name: {key: value for key, value in table.items() if value is not None} for name, table in flags.items()}
    top = {name: words.get(name, {}) | given.get(name, {}) for name in words.keys() | given.keys()}
    return [*([{**load_config_file(config), _ABOUT: {"source": f"--config {config}"}}] if config else []), top]


def _recipe_folder() -> Any:
    return resources.files("vitcli") / "recipes"


class _Word(str):
    """A value as typed on the command line; its meaning depends on the type of its key."""

    __slots__ = ()

    def as_kind(self, kind: Any) -> Any:
        """Read the word as TOML; keep it as text if it is not TOML, or if its key takes text and it is not quoted."""
        try:
            value = tomllib.loads(f"value = {self}")["value"]
        except tomllib.TOMLDecodeError:
            return str(self)
        return str(self) if kind is str and not isinstance(value, str) else value


def _unknown(kind: str, name: str, known: Iterable[str]) -> None:
    known = list(known)
    raise UsageError(f"unknown {kind} {name!r}", hint=did_you_mean(name, known, otherwise=f"known: {', '.join(known)}"))


@functools.cache
def _kinds_of(section: Any) -> dict[str, Any]:
    """Return the types of the keys of a section; that of a value or None is the value's: TOML has no None."""
    kinds = get_type_hints(section)
    return {name: get_args(kind)[0] if get_origin(kind) is UnionType else kind for name, kind in kinds.items()}


def setting_called(key: str, section: str = "") -> str:
    """Return the ``section.key`` that was probably meant by a key of a section, or of none; empty: none is near."""
    homes = {each: name for name in ("model", *_SECTIONS) for each in _kinds_of(_fields_of(name))}
    own = nearest(key, _kinds_of(_fields_of(section))) if section else ""
    near = own or nearest(key, homes)
    return f"{section if own else homes[near]}.{near}" if near else ""


def _fields_of(section: str) -> Any:
    """Return the dataclass whose fields are the keys of a section."""
    return ModelConfig if section == "model" else _SECTIONS[section]


def _build(section: Any, name: str, table: Mapping[str, Any]) -> Any:
    """Build the dataclass of one section from its table."""
    kinds = _kinds_of(_fields_of(name))
    for key in table:
        if key not in kinds:
            near = setting_called(key, name)
            known = f"known: {', '.join(f'{name}.{each}' for each in kinds)}"
            raise UsageError(f"unknown key '{name}.{key}'", hint=f"did you mean {near!r}?" if near else known)
    with in_section(name):
        values = {key: _convert(value, kinds[key], key) for key, value in table.items()}
        if section is not ModelChoice:
            return section(**values)
    chosen = {"name": values.pop("name")} if "name" in values else {}
    return ModelChoice(**chosen, changes=values)


@contextmanager
def in_section(name: str) -> Iterator[None]:
    """Let errors say ``section.key = value`` where they say ``key = value``, with an example if they have no hint.

    The dataclass of a section does not know what its section is called.
    """
    try:
        yield
    except UsageError as error:
        kinds = _kinds_of(_fields_of(name))
        error.message = re.sub(rf"(?<![\w.])({'|'.join(kinds)}) = ", rf"{name}.\1 = ", error.message)
        key = error.message.partition(" = ")[0].removeprefix(f"{name}.")
        if error.hint == UsageError.usual_hint and key in kinds:
            error.hint = f"for example {name}.{key} = {example(name, key)}; leave it out to take the usual one"
        raise


def example(section: str, key: str) -> str:
    """Return an example of a setting's value: the default, if it says anything."""
    usual, kind = getattr(_fields_of(section)(), key), _kinds_of(_fields_of(section))[key]
    if key in {"lr", "head_lr"}:
        usual = USUAL_LR["muon"]
    if get_origin(kind) is tuple:
        return "32, or 32x48" if get_args(kind)[0] is int else "[{:g},{:g}]".format(*usual)
    return f"{usual or {int: 8, float: 0.1, bool: 'true'}.get(kind, 'TEXT')}"


def _convert(value: Any, kind: Any, key: str) -> Any:
    """Convert ``value`` to ``kind`` if no information is lost, or else raise UsageError."""
    value = _plain(value, kind)
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


def _plain(value: Any, kind: Any) -> Any:
    """Turn a word of the command line, a path, or a number of numpy or torch into a plain value."""
    if isinstance(value, _Word):
        return value.as_kind(kind)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if getattr(value, "shape", None) == () else value


def _convert_pair(value: Any, kind: Any, key: str) -> Any:
    """Convert a list of two, ``HEIGHTxWIDTH``, or one size for both, to a pair."""
    parts = value
    if isinstance(value, str):
        parts = [_Word(part) for part in value.lower().split("x")]
    elif not isinstance(value, list | tuple):
        parts = [value]
    parts = [*parts, *parts] if len(parts) == 1 and kind is int else parts
    try:
        first, second = (_convert(part, kind, key) for part in parts)
    except (UsageError, ValueError):  # a part of the wrong kind, or not two parts
        wanted = "a size in pixels" if kind is int else "two numbers"
        raise UsageError(f"{key} = {value!r} is not {wanted}") from None
    return first, second
