"""Names that are too long for their place."""

import re
from collections.abc import Sequence
from itertools import takewhile

_WORD = re.compile(r"[\s_/-]+")


def distinct(names: Sequence[str], width: int) -> list[str]:
    """Names in at most so many characters, 8 or more, of which no two are alike that were not so before.

    Where one is too long, words with which all begin or end are dropped, as "Cassava" in "Cassava Healthy"; what still is
    too long loses its middle, and gets its number where that makes two of them alike.
    """
    names = [" ".join(name.split()) for name in names]
    for without in (_without_shared_start, _without_shared_end):
        if max(map(len, names), default=0) > width and len(names) > 1:
            names = without(names)
    short = [_cut(name, width) for name in names]
    if len(set(short)) == len(set(names)):
        return short
    return [f"{number}: {_cut(name, width - len(f'{number}: '))}" for number, name in enumerate(names)]


def _without_shared_start(names: list[str]) -> list[str]:
    """The names behind the words with which all of them begin; as they are where nothing of one would be left."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in alike)
    ends = [match.end() for match in _WORD.finditer(shared)]
    rest = [name[ends[-1] :] for name in names] if ends else names
    return rest if all(rest) else names


def _without_shared_end(names: list[str]) -> list[str]:
    return [name[::-1] for name in _without_shared_start([name[::-1] for name in names])]


def _cut(name: str, width: int) -> str:
    """Its beginning and its end."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail].rstrip()}…{name[-tail:].lstrip()}"
