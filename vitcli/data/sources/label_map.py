"""Class names for the labels of a table, from a JSON file with one name per label."""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, some
from vitcli.core.events import Emit, Note
from vitcli.core.stored import parse_json
from vitcli.data.sources.image_search import IMAGE_SUFFIXES
from vitcli.data.sources.names import plain

_NO_WORD = re.compile(r"[-+]?[0-9.,]+(e[-+]?[0-9]+)? ?%?|#[0-9a-f]{3,8}|", re.IGNORECASE)
"""A number, a share, a colour, or nothing."""


def class_names(values: Sequence[str], folder: Path, config: DataConfig, emit: Emit) -> tuple[str, ...]:
    """Return the names of the classes: those of a label map, or the labels themselves if there is no map."""
    if config.label_map:
        path = Path(config.label_map)
        content = _json(path)
        names = _mapped(values, content, is_given=True)
        if names is None:
            raise DataError(f"{path} {_fault(values, content)}", hint='expected: {"0": "cat", ...}')
        return names
    for path in sorted(folder.glob("*.json")):
        try:
            content = _json(path)
        except DataError:
            continue
        names = _mapped(values, content, is_given=False)
        way = next(iter(_ways(content)), {})
        is_larger = len(way) > len(values) and {*values} <= {*way}
        if names is None and is_larger and _are_words(content) and not _has_images(way.values()):
            what = f"{path} has {len(way):,} entries, but there are {len(values):,} labels"
            emit(Note(text=f"{what}: it is not taken for their names; --label-map {shlex.quote(str(path))} takes it"))
        if names and names != tuple(values):
            emit(Note(text=f"class names: {path}"))
            return names
    return tuple(values)


def _mapped(values: Sequence[str], content: Any, *, is_given: bool) -> tuple[str, ...] | None:
    """Return a name for every label, from a list or a map in either direction; None if names are missing or equal.

    A file that was only found may be about something else, such as the weight, the number of images or the colour of each
    class. Its values must be words, as many as there are labels, and no images; it is read from name to label if it has no
    other entries, or numbers its names from 0.
    """
    for way, is_inverse in zip(_ways(content, one_to_one=not is_given), (False, True), strict=False):
        names = tuple(way[key] for value in values if (key := _key(value, way)) in way)
        is_whole = len(way) == len(values)
        is_about = is_whole or _are_indices(way) if is_inverse else is_whole and _are_words(content)
        is_meant = is_given or (is_about and not _has_images(names))
        if is_meant and len(set(names)) == len(values):  # a table that has names already needs no numbers for them
            return tuple(values) if _are_indices(way.values()) and not _are_numbers(values) else names
    return None


def _are_words(content: Any) -> bool:
    """Tell whether the values of a label map can be names of classes: texts that are not all numbers or colours."""
    values = list(content.values() if isinstance(content, Mapping) else content)
    texts = [value.strip() for value in values if isinstance(value, str)]
    return len(texts) == len(values) and not all(map(_NO_WORD.fullmatch, texts))


def _has_images(names: Collection[str]) -> bool:
    return any(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in names)


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.removesuffix(".0").isdecimal() for name in names)


def _are_indices(names: Collection[str]) -> bool:
    return {*names} == {str(at) for at in range(len(names))}


def _ways(content: Any, *, one_to_one: bool = False) -> tuple[dict[str, str], ...]:
    """Return a label map in both directions: as it is written, and inverted (``one_to_one``: if no names are equal)."""
    if isinstance(content, list):
        content = {str(at): name for at, name in enumerate(content)}
    if not isinstance(content, Mapping):
        return ()
    pairs = [(plain(str(key)), plain(str(name))) for key, name in content.items()]
    inverse = {name: key for key, name in pairs}
    return (dict(pairs),) if one_to_one and len(inverse) < len(pairs) else (dict(pairs), inverse)


def _key(value: str, way: Mapping[str, str]) -> str:
    """Return the key of a label in a map.

    Programs write 1.0 for the label 1 if other rows have no label; the map usually has 1.
    """
    whole = value.removesuffix(".0")
    return whole if value not in way and whole.isdecimal() else value


def _fault(values: Sequence[str], content: Any) -> str:
    """Describe why a label map cannot be used."""
    if not (ways := _ways(content)):
        return "is not a map from labels to names"
    lacking = [[value for value in values if _key(value, way) not in way] for way in ways]
    best = min(range(len(ways)), key=lambda at: len(lacking[at]))
    if lacking[best]:
        return f"lacks a name for {len(lacking[best]):,} of {len(values):,} labels: {some(lacking[best])}"
    called: dict[str, list[str]] = {}
    for value in values:
        called.setdefault(ways[best][_key(value, ways[best])], []).append(value)
    name, those = next((name, those) for name, those in called.items() if len(those) > 1)
    return f"has the name {name!r} for several labels: {some(those)}"


def _json(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"), Any)
    except FileNotFoundError:
        raise DataError(f"no such label map: {path}", hint="--label-map FILE.json") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a JSON file: {error}") from None
