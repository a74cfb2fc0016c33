"""Tags: words of the user's own about a run or a group of runs, in a file of their own, ``tags.json``."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from vitcli.core.errors import RunError, UsageError
from vitcli.core.files import write_json
from vitcli.core.stored import read_json

TAGS_FILE = "tags.json"
_TAG = re.compile(r"[\w.-]+")


class _TagsFile(TypedDict):
    """The entries of ``tags.json``."""

    tags: list[str]


def tags_of(folder: Path) -> list[str]:
    """Return the tags of a run or a group; raise RunError if the file of tags is broken."""
    file = folder / TAGS_FILE
    try:
        tags: list[str] = read_json(file, _TagsFile)["tags"] if file.exists() else []
    except (OSError, ValueError) as error:
        raise RunError(f"{file} is broken: {error}", hint=f"rm {shlex.quote(str(file))}") from None
    return tags


def save_tags(folder: Path, tags: Sequence[str]) -> None:
    """Store the tags of a run or a group; a run may be trained meanwhile."""
    write_json(folder / TAGS_FILE, {"tags": list(tags)}, makes_folder=False)


def check_tag(word: str) -> None:
    """Refuse a word that cannot be a tag."""
    if not _TAG.fullmatch(word):
        raise UsageError(f"{word!r} cannot be a tag", hint="a tag has letters, digits, dots, hyphens and underscores")
