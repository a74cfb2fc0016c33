"""Names of classes and files: one spelling of accented letters, and the order of lists; standard library only."""

import re
import unicodedata

NO_LABEL = {"", "nan"}
"""Texts that programs write for a missing label, in lower case."""
WHOLE_NUMBER = re.compile(r"(-?\d{1,18})(\.0*)?", re.ASCII)
"""A label that is a whole number: 1, 01 and 1.0 are equal."""


def plain(name: str) -> str:
    """Compose the accented letters of a name (Unicode NFC); macOS and some archives decompose them."""
    return unicodedata.normalize("NFC", name)


def natural(name: str) -> tuple[int, int, str, str]:
    """Return a sort key: whole numbers by value, then all other texts in alphabetical order."""
    if not (name.isdecimal() and name.isascii()):
        return 1, 0, name, name
    digits = name.lstrip("0")  # by length and digits, because int() refuses thousands of them
    return 0, len(digits), digits, name
