"""Measurements of this machine, remembered: one JSON file per question.

A measurement is noisy, and what is chosen by it must not change from run to run: it is made once.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitcli.core.errors import UsageError
from vitcli.core.files import write_json


def measured_once(
    question: Mapping[str, Any], measure: Callable[[], Mapping[str, float]], *, folder: Path
) -> Mapping[str, float]:
    """The figures that are remembered for a question; else they are measured now, and remembered.

    Of several processes that measure at once, the first one's figures count. A file that is broken is measured again,
    and a folder that cannot be written is not an error: then nothing is remembered.

    Args:
        question: what the figures depend on, machine included; JSON can say it.
        measure: positive figures by name.
        folder: where files are kept.
    """
    asked = json.dumps(question, sort_keys=True)
    path = folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
    if known := _remembered(path, asked):
        return known
    figures = measure()
    if known := _remembered(path, asked):
        return known
    with suppress(OSError, UsageError):
        write_json(path, {"question": question, "figures": figures})
    return figures


def _remembered(path: Path, asked: str) -> Mapping[str, float] | None:
    """None: nothing that makes sense, or the answer to another question."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or json.dumps(content.get("question"), sort_keys=True) != asked:
        return None
    figures = content.get("figures")
    if not isinstance(figures, dict) or not figures:
        return None
    makes_sense = all(isinstance(figure, float) and 0 < figure < math.inf for figure in figures.values())
    return figures if makes_sense else None
