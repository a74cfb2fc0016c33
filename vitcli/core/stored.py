"""Reading of JSON that may be broken, huge or of another program: its size, depth and types are checked.

msgspec checks the types, from the annotations of dataclasses and typed dictionaries. It is imported when it is needed.
"""

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

from vitcli.core.errors import VitError
from vitcli.core.files import bytes_in_words

_MOST_BYTES = 2**28
"""The largest JSON file that is read."""
JsonObject = dict[str, Any]


def read_json(path: Path, kind: Any = JsonObject) -> Any:
    """Read a JSON file as a value of some type.

    Args:
        path: the file.
        kind: a type, for example a dataclass; typed dictionaries and unknown keys of dataclasses are only checked.

    Raises:
        OSError: the file is missing or cannot be read.
        ValueError: it is not a regular file, is too large, is not JSON, or has another type; the message says where.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 - reading a pipe would wait for ever
        raise ValueError("it is not a regular file")
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise ValueError(f"it has {bytes_in_words(size)}, more than {bytes_in_words(_MOST_BYTES)}")
    return parse_json(path.read_bytes(), kind)


def parse_json(text: bytes | str, kind: Any = JsonObject) -> Any:
    """Parse JSON as a value of some type.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or has another type; the message says where.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    return checked(value, kind)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def checked(value: Any, kind: Any) -> Any:
    """Convert a JSON value to some type.

    Raises:
        ValueError: it has another type, or a value that the type does not allow; the message says where.
    """
    import msgspec

    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:  # also ValueError of a dataclass that checks its values
        raise ValueError(_in_plain_words(str(error))) from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except VitError as error:  # of a dataclass that checks its values
        raise ValueError(error.message) from None


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
}


def _in_plain_words(error: str) -> str:
    """Reword a message of msgspec, such as "Expected `int | null`, got `str` - at `$.seed`"."""
    what, _, place = error.partition(" - at ")
    where = place.strip("`").removeprefix("$").removeprefix(".") or "it"
    named = re.findall("`(.*?)`", what)
    wanted, *found = (" or ".join(_KINDS.get(each, each) for each in name.split(" | ")) for name in named or [""])
    if re.fullmatch(r"Expected `\S.*`, got `.*`", what):
        return f"{where} is {found[0]}, not {wanted}"
    if length := re.fullmatch(r"Expected `array` of length (\d+), got (\d+)", what):
        return f"{where} has length {length[2]}, not {length[1]}"
    if what.startswith("Object missing required field"):
        return f"{named[0]} is missing" + (f" in {where}" if place else "")
    return what.replace("`", "") + (f", in {where}" if where != "it" else "")
