"""The settings that a search varies, and the values that each of them may take.

A space is written as a setting and its values: ``optim.lr=1e-4..1e-1:log`` is a range, ``model.depth=2,4,6`` is a list.
"""

import itertools
import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.config import TrainConfig
from vitcli.core.config_files import configure, parse_assignments, settings_of
from vitcli.core.errors import FileError, UsageError
from vitcli.core.files import flat

STRENGTH = "augment.strength"
"""Not a setting, but a factor on the strengths of all random changes of images that are on."""
Value = int | float | str
"""A value to try: a number, or a word as ``--set`` takes it."""
_EXAMPLE = "for example --search optim.lr=1e-4..1e-1:log, or --search model.depth=2,4,6"
_FORM = 'such a file has lines such as [optim], and below it lr = "1e-4..1e-1:log" or batch_size = [64, 128]'
"""The form of a file of a search space."""
_DIGITS = 3
"""Significant digits of a value from a range; more of them change nothing that could be measured."""
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(.*))?")
_MOST_COMBINATIONS = 64
"""Combinations of settings that are tried one after the other, each once."""
_COMMA = re.compile(r",(?![^\[]*\])")
"""A comma between two values, but not within the square brackets of one."""
_SAME_IMAGES = frozenset({"balanced_sampling", "resize", "interpolation", "crop_fraction", "normalise"})
"""Settings of data that may be searched, because the validation images stay the same."""
_MOST_STRENGTH = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """A setting that is a number between two ends."""

    setting: str
    low: float
    high: float
    is_log: bool = False
    """True if each factor is as probable as any other, not each difference."""
    is_whole: bool = False
    """True if the setting takes whole numbers only."""

    @property
    def text(self) -> str:
        """The values as ``--search`` takes them."""
        low, high = (int(end) if self.is_whole else end for end in (self.low, self.high))
        return f"{low}..{high}{':log' if self.is_log else ''}"

    @property
    def words(self) -> str:
        """The values for people."""
        return f"{self.low:g} to {self.high:g}{' (log)' if self.is_log else ''}"

    @property
    def options(self) -> list[Value]:
        """All values, if they are few; empty: they are many."""
        count = int(self.high - self.low) + 1
        return [int(self.low) + at for at in range(count)] if self.is_whole and count <= _MOST_COMBINATIONS else []

    def suggest(self, trial: Any) -> Value:
        """Return the value of an Optuna trial, with few digits."""
        if self.is_whole:
            return int(trial.suggest_int(self.setting, int(self.low), int(self.high), log=self.is_log))
        value = rounded(trial.suggest_float(self.setting, self.low, self.high, log=self.is_log))
        return min(max(value, self.low), self.high)

    def value_in(self, known: Mapping[str, Any]) -> Value | None:
        """Return the value that the default settings have; None: it is outside of the range."""
        value = known.get(self.setting)
        return value if isinstance(value, int | float) and self.low <= value <= self.high else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """A setting that is one of several values."""

    setting: str
    values: tuple[str, ...]
    """Words as ``--set`` takes them."""

    @property
    def text(self) -> str:
        """The values as ``--search`` takes them."""
        return ",".join(self.values)

    @property
    def words(self) -> str:
        """The values for people."""
        return f"{', '.join(self.values[:-1])} or {self.values[-1]}"

    @property
    def options(self) -> list[Value]:
        """All values."""
        return list(self.values)

    def suggest(self, trial: Any) -> Value:
        """Return the value of an Optuna trial."""
        return str(trial.suggest_categorical(self.setting, self.values))

    def value_in(self, known: Mapping[str, Any]) -> Value | None:
        """Return the word of the value that the default settings have; None: it is not one of the choices."""
        return next((word for word in self.values if _typed(self.setting, word) == known.get(self.setting)), None)


Dimension = Range | Choices


def combinations(space: Sequence[Dimension]) -> list[dict[str, Value]]:
    """Return all settings that a space holds, if they are so few that each of them can be tried; empty: they are many."""
    options = [each.options for each in space]
    if not 0 < math.prod(map(len, options)) <= _MOST_COMBINATIONS:
        return []
    names = [each.setting for each in space]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*options)]


def settings_with(values: Mapping[str, Value], augment: AugmentConfig) -> dict[str, dict[str, Any]]:
    """Turn the values of a trial into a layer of settings.

    Args:
        values: values by setting; ``augment.strength`` changes all strengths of ``augment``.
        augment: the augmentation of the default settings.
    """
    layer: dict[str, dict[str, Any]] = {}
    if STRENGTH in values:
        layer["augment"] = augment.strengths(float(values[STRENGTH]))
    for setting, value in values.items():
        section, _, key = setting.partition(".")
        if setting != STRENGTH:
            word = parse_assignments([f"{setting}={value}"])[section][key] if isinstance(value, str) else value
            layer.setdefault(section, {})[key] = word
    return layer


def searched(file: Path | None, words: Iterable[str]) -> list[Dimension]:
    """Return the space of a TOML file and of words as ``--search`` takes them, which win; empty: neither is given."""
    space = [*(load_space(file) if file else ()), *parse_search(words)]
    return list({each.setting: each for each in space}.values())


def parse_search(words: Iterable[str]) -> list[Dimension]:
    """Parse words such as ``optim.lr=1e-4..1e-1:log`` and ``model.depth=2,4,6``.

    Raises:
        UsageError: a word that is not of this form, an unknown setting, or a value that it does not take.
    """
    space: list[Dimension] = []
    for word in words:
        ((section, table),) = parse_assignments([word], flag="--search", example=_EXAMPLE).items()
        ((key, text),) = table.items()
        setting = f"{section}.{key}"
        if setting in {each.setting for each in space}:
            raise UsageError(f"--search {word!r}: {setting} is searched twice", hint="give all of its values at once")
        space.append(_dimension(setting, str(text), f"--search {word!r}"))
    return space


def load_space(path: Path) -> list[Dimension]:
    """Load a TOML file of ranges and lists, such as ``lr = "1e-4..1e-1:log"`` and ``batch_size = [64, 128]``.

    Raises:
        FileError: the file does not exist or is not TOML.
        UsageError: it has something else.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"no such file of a search space: {path}", hint=f"--space takes a TOML file; {_FORM}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path} is not a TOML file: {error}", hint=_FORM) from None
    space: list[Dimension] = []
    for section, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(f"{path}: {section} = {table!r} is not in a section", hint=_FORM)
        for key, values in table.items():
            if not isinstance(values, str | list):
                raise UsageError(f"{path}: {section}.{key} = {values!r} is neither a range nor a list", hint=_FORM)
            if not values:
                raise UsageError(f"{path}: {section}.{key} = {values!r} has no values", hint=_FORM)
            text = values if isinstance(values, str) else ",".join(map(_word, values))
            space.append(_dimension(f"{section}.{key}", text, f"{path}: {section}.{key} = {values!r}", _FORM))
    if not space:
        raise UsageError(f"{path} names no setting to search", hint=_FORM)
    return space


def _dimension(setting: str, text: str, origin: str, example: str = _EXAMPLE) -> Dimension:
    """Make a range or a list of values from its text; ``origin`` is what was typed, and ``example`` what can be, for errors."""
    _check_searchable(setting, origin, example)
    found = _RANGE.fullmatch(text)
    words = [found[1], found[2]] if found else [word.strip() for word in _COMMA.split(text)]
    if not found and ".." in text and len(words) == 1:
        raise UsageError(f"{origin} is not a range from one number to another", hint=example)
    values = []
    for word in words:
        try:
            values.append(_typed(setting, word))
        except UsageError as error:
            hint = example if error.hint.startswith("for example") else error.hint
            raise UsageError(f"{origin}: {error.message}", hint=hint) from None
    if not found:
        if len({*map(str, values)}) < 2 or len({*map(str, values)}) < len(values):
            raise UsageError(f"{origin} does not have two or more different values", hint=example)
        return Choices(setting=setting, values=tuple(words))
    low, high = values
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
        raise UsageError(f"{origin}: {setting} is not a number, so it has no range", hint=f"list its values; {example}")
    if found[3] not in {None, "log"}:
        raise UsageError(
            f"{origin} ends with {':' + found[3]!r}", hint="a range ends with :log, or with its higher end"
        )
    if not low < high:
        raise UsageError(f"{origin}: {found[1]} is not below {found[2]}", hint=example)
    if found[3] and low <= 0:
        raise UsageError(f"{origin}: a logarithmic range is above 0", hint=example)
    return Range(
        setting=setting,
        low=float(low),
        high=float(high),
        is_log=found[3] == "log",
        is_whole=isinstance(low, int) and isinstance(high, int),
    )


def _check_searchable(setting: str, origin: str, example: str) -> None:
    """Refuse settings that change how a trial is scored, or that do not change what it learns."""
    section, _, key = setting.partition(".")
    why, hint = "", f"--set chooses it; {example}"
    if section == "about":
        why = "it is for readers only"
    elif section == "run":
        why = "it says where and how a run is made, not how it learns"
    elif section == "data" and key not in _SAME_IMAGES:
        why = "scores on other images cannot be compared"
    elif setting in {"model.num_classes", "model.in_channels"}:
        why, hint = "it comes from the data set", example
    elif setting == "optim.keep":
        why = "scores of the best and of the last epoch cannot be compared"
    if why:
        raise UsageError(f"{origin}: {setting} cannot be searched: {why}", hint=hint)


def _typed(setting: str, word: str) -> Any:
    """Return the value of a word, with the type of the setting.

    Raises:
        UsageError: there is no such setting, or it does not take this value.
    """
    section, _, key = setting.partition(".")
    if setting == STRENGTH:
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if not 0 <= value <= _MOST_STRENGTH:
            raise UsageError(
                f"{STRENGTH} = {word!r} is not a number from 0 to {_MOST_STRENGTH:g}",
                hint="it is a factor on all strengths of augmentation: --search augment.strength=0..2",
            )
        return value
    return settings_of(configure(parse_assignments([f"{setting}={word}"])))[section][key]


def default_values(
    space: Sequence[Dimension], config: TrainConfig, architecture: Mapping[str, Any]
) -> dict[str, Value] | None:
    """Return the value of each searched setting in the default settings; None: one of them is outside of the space.

    Args:
        space: the searched settings.
        config: the default settings.
        architecture: every setting of the architecture, many of which its name stands for.
    """
    known = {**{f"model.{key}": value for key, value in architecture.items()}, **flat(settings_of(config))}
    known |= {"optim.lr": config.optim.peak_lr, STRENGTH: 1.0}
    found = {each.setting: value for each in space if (value := each.value_in(known)) is not None}
    return found if len(found) == len(space) else None


def _word(value: object) -> str:
    """Write a value of a TOML file as ``--search`` takes it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


def rounded(value: float) -> float:
    """Round a number to few digits."""
    return float(f"{value:.{_DIGITS}g}")
