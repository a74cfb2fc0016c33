"""Names of classes and files: one spelling of accented letters, and the order of lists; standard library only."""

import re
import unicodedata
from collections.abc import Iterable

NO_LABEL = {"", "nan"}
"""Texts that programs write for a missing label, in lower case."""
WHOLE_NUMBER = re.compile(r"(-?\d{1,18})(\.0*)?", re.ASCII)
"""A label that is a whole number: 1, 01 and 1.0 are equal."""

_WORDS = re.compile(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+")
_IMAGES = "(imgs?|images?|photos?|pics?|pictures?)"
_TESTS = rf"(tests?|testing|submissions?)(set|data|daten|dataset|{_IMAGES}|split)?"
_FOR_TESTING = re.compile(rf"{_TESTS}( .*)?|samples?|sample ?(sub[a-z]*|solution|entry|predictions?|{_IMAGES})( .*)?")
_ENDS_FOR_TESTING = re.compile(rf".* ({_TESTS}|samples?)")


def words_in(name: str) -> list[str]:
    """Return the words and numbers of a name in lower case: ``sampleSubmission_2`` has sample, submission and 2."""
    return [word.lower() for word in _WORDS.findall(name)]


def is_for_testing(name: str, *, by_its_end: bool = False) -> bool:
    """Tell whether a folder or file is called like one without labels: ``test_images``, but not ``testis``.

    Args:
        name: the name, without the ending of a file.
        by_its_end: accept the word at the end too, as in ``labels_test``.
    """
    words = " ".join(words_in(name))
    return bool(_FOR_TESTING.fullmatch(words) or (by_its_end and _ENDS_FOR_TESTING.fullmatch(words)))


def plain(name: str) -> str:
    """Compose the accented letters of a name (Unicode NFC); macOS and some archives decompose them."""
    return unicodedata.normalize("NFC", name)


def natural(name: str) -> tuple[int, int, str, str]:
    """Return a sort key: whole numbers by value, then all other texts in alphabetical order."""
    if not (name.isdecimal() and name.isascii()):
        return 1, 0, name, name
    digits = name.lstrip("0")  # by length and digits, because int() refuses thousands of them
    return 0, len(digits), digits, name


def alike(names: Iterable[str]) -> list[tuple[str, str]]:
    """Find pairs of names that differ only in upper and lower case, or in spaces."""
    first: dict[str, str] = {}
    known = ((first.setdefault(" ".join(name.casefold().split()), name), name) for name in names)
    return [(one, other) for one, other in known if one != other]
