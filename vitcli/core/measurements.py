"""Stored measurements of this machine, one JSON file per question.

A measurement is noisy, but a choice that depends on it must not change from run to run. Therefore it is made once.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypedDict

from vitcli.core.errors import FileError
from vitcli.core.files import write_json
from vitcli.core.stored import JsonObject, read_json


class _Measurement(TypedDict):
    question: JsonObject
    figures: dict[str, float]


def measured_once(
    question: Mapping[str, Any], measure: Callable[[], Mapping[str, float]], *, folder: Path
) -> Mapping[str, float]:
    """Return the stored figures for a question, or else measure and store them.

    If several processes measure at the same time, the figures that were stored first count. If a file is broken, the
    measurement is repeated. A folder that cannot be written is not an error: then nothing is stored.

    Args:
        question: everything that the figures depend on, including the machine, as JSON values.
        measure: returns positive figures by name.
        folder: the folder of stored measurements.
    """
    asked = json.dumps(question, sort_keys=True)
    path = folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
    if known := _remembered(path, asked):
        return known
    figures = measure()
    if known := _remembered(path, asked):
        return known
    with suppress(OSError, FileError):
        write_json(path, {"question": question, "figures": figures})
    return figures


def measurements(folder: Path) -> Iterator[tuple[JsonObject, Mapping[str, float]]]:
    """Yield the question and the figures of every stored measurement; broken files are passed over."""
    for path in sorted(folder.glob("*.json")):
        with suppress(OSError, ValueError):
            question = read_json(path, _Measurement)["question"]
            if figures := _remembered(path, json.dumps(question, sort_keys=True)):
                yield question, figures


def _remembered(path: Path, asked: str) -> Mapping[str, float] | None:
    """Read the stored figures; None: the file is missing or broken, or belongs to another question."""
    try:
        content = read_json(path, _Measurement)
    except (OSError, ValueError):
        return None
    figures: dict[str, float] = content["figures"]
    makes_sense = figures and all(0 < figure < math.inf for figure in figures.values())
    return figures if makes_sense and json.dumps(content["question"], sort_keys=True) == asked else None
