"""The names and addresses of Kaggle's data sets and competitions; standard library only."""

import re
from dataclasses import dataclass

from vitcli.core.errors import UsageError

PREFIX = "kaggle:"
WEBSITE = "https://www.kaggle.com"
_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}"
_SITE = re.compile(r"(https?://)?(www\.)?kaggle\.com/")
_NO_OWNERS = {"c", "competitions", "datasets"}
"""First words of addresses on the website, which are not owners of data sets."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KaggleReference:
    """A data set or a competition on Kaggle; its text is ``kaggle:OWNER/NAME`` or ``kaggle:NAME``."""

    owner: str = ""
    """The owner of a data set; empty for a competition."""
    name: str

    @classmethod
    def parse(cls, text: str) -> "KaggleReference":
        """Parse ``kaggle:OWNER/NAME`` (a data set), ``kaggle:NAME`` (a competition) or the address of its page.

        The prefix may be missing.

        Raises:
            UsageError: any other text; if it looks like part of an address, the hint proposes the reference.
        """
        bare = text.removeprefix(PREFIX)
        found = re.fullmatch(rf"(?:({_NAME})/)?({_NAME})", bare)
        if found and found[1] not in _NO_OWNERS:
            return cls(owner=found[1] or "", name=found[2])
        likely = _from_address(bare)
        if likely and is_address(bare):
            return cls.parse(likely)
        raise UsageError(
            f"{text!r} is not a name on Kaggle: {PREFIX}OWNER/NAME is a data set, {PREFIX}NAME a competition",
            hint=f"did you mean {likely}?" if likely else "take the name from the address of its page",
        )

    def __str__(self) -> str:
        return f"{PREFIX}{self.owner}/{self.name}" if self.owner else f"{PREFIX}{self.name}"

    @property
    def is_competition(self) -> bool:
        """Tell whether this is a competition, which has rules to accept."""
        return not self.owner

    @property
    def page(self) -> str:
        """The address of the page on Kaggle's website."""
        if self.is_competition:
            return f"{WEBSITE}/competitions/{self.name}"
        return f"{WEBSITE}/datasets/{self.owner}/{self.name}"


def is_address(text: str) -> bool:
    """Tell whether a text is an address of Kaggle's website."""
    return _SITE.match(text) is not None


def _from_address(text: str) -> str:
    """Return the reference for an address on the website, or an empty string."""
    words = re.split("[/?#]", _SITE.sub("", text))
    wanted = 2 if words[0] == "datasets" else 1
    names = [word for word in words[1 : 1 + wanted] if re.fullmatch(_NAME, word)]
    return PREFIX + "/".join(names) if words[0] in _NO_OWNERS and len(names) == wanted else ""
