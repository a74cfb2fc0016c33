"""Short forms of names that are too long for their place in a picture, a table or a file name."""

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

from vitcli.core.runs import slug

_LONGEST_SLUG = 60
"""Bytes of a class's name in a file name, at most."""
_LONGEST_OF_SEVERAL = 190
"""Bytes of the names of several runs in a file name, at most."""
_WORD = re.compile(r"[\s_/-]+")


def distinct(names: Sequence[str], width: int) -> list[str]:
    """Shorten names to at most ``width`` characters, so that different names stay different.

    If a name is too long, the words that all names begin or end with are dropped, for example "Cassava" in "Cassava
    Healthy". Names that are still too long lose their middle. If two names become equal, all get their numbers.

    Args:
        names: the names.
        width: maximum number of characters, 8 or more.
    """
    names = [" ".join(name.split()) for name in names]
    for without in (_without_shared_start, _without_shared_end):
        if max(map(len, names), default=0) > width and len(names) > 1:
            names = without(names)
    short = [_cut(name, width) for name in names]
    if len(set(short)) == len(set(names)):
        return short
    return [f"{number}: {_cut(name, width - len(f'{number}: '))}" for number, name in enumerate(names)]


def distinct_once(names: Sequence[str], width: int) -> list[str]:
    """Shorten names as ``distinct`` does, of which several may be the same."""
    own = [*dict.fromkeys(names)]
    short = dict(zip(own, distinct(own, width), strict=True))
    return [short[name] for name in names]


def class_slugs(classes: Sequence[str]) -> list[str]:
    """Turn class names into parts of file names that are unique and not too long."""
    cut = [slug(name).encode(errors="replace")[:_LONGEST_SLUG].decode(errors="ignore").strip("-") for name in classes]
    often = Counter(cut)
    is_plain = [
        any(letter.isalnum() for letter in name) and often[each] == 1 for name, each in zip(classes, cut, strict=True)
    ]
    numbered = [
        each if plain else f"{each}-class-{index}"
        for index, (each, plain) in enumerate(zip(cut, is_plain, strict=True))
    ]
    if len(set(numbered)) == len(classes):
        return numbered
    return [f"{each}-class-{index}" for index, each in enumerate(cut)]  # a class is called like the number of another


def slug_of_several(names: Sequence[str]) -> str:
    """Turn names into one part of a file name: ``A-vs-B``, with a hash if anything of them is changed or cut."""
    joined = "-vs-".join(slug(name) for name in names)
    short = joined.encode(errors="replace")[:_LONGEST_OF_SEVERAL].decode(errors="ignore")
    if short.split("-vs-") == list(names):
        return short
    return f"{short}-{hashlib.sha256(repr(tuple(names)).encode(errors='replace')).hexdigest()[:8]}"


def _without_shared_start(names: list[str]) -> list[str]:
    """Drop the words that all names begin with; change nothing if one name would become empty."""
    alike = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    shared = "".join(letters[0] for letters in alike)
    ends = [match.end() for match in _WORD.finditer(shared)]
    rest = [name[ends[-1] :] for name in names] if ends else names
    return rest if all(rest) else names


def _without_shared_end(names: list[str]) -> list[str]:
    return [name[::-1] for name in _without_shared_start([name[::-1] for name in names])]


def _cut(name: str, width: int) -> str:
    """Shorten a name to its beginning and its end, with "…" between them."""
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail].rstrip()}…{name[-tail:].lstrip()}"
