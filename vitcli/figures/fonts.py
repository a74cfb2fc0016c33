"""Installed fonts for the letters that matplotlib's own font lacks, and one warning about letters that no font has."""

import logging
import re
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from unicodedata import category, east_asian_width

import matplotlib as mpl

for _name in ("matplotlib.font_manager", "fontTools"):
    logging.getLogger(_name).setLevel(logging.ERROR)  # the search for fonts interests no user

_FAMILIES = (
    *(
        "Noto Sans CJK JP",
        "Noto Sans CJK SC",
        "Noto Sans CJK TC",
        "Noto Sans CJK KR",
        "Source Han Sans",
        "Noto Sans JP",
    ),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "IPAexGothic", "IPAGothic", "TakaoGothic", "UnDotum", "NanumGothic"),
    *(
        "Droid Sans Fallback",
        "Hiragino Sans",
        "PingFang SC",
        "Heiti SC",
        "Apple SD Gothic Neo",
        "Yu Gothic",
        "MS Gothic",
    ),
    *("Microsoft YaHei", "SimHei", "Malgun Gothic", "Arial Unicode MS"),
)
"""Font families with Chinese, Japanese or Korean letters; families with all three come first."""


_told: set[str] = set()
"""The letters of the warning; empty: there was none yet."""


@cache
def east_asian_fonts() -> dict[str, Path]:
    """Return the installed fonts with Chinese, Japanese or Korean letters: family -> file, the most complete first."""
    from matplotlib.font_manager import fontManager  # slow to import, and rarely needed

    installed = {font.name: Path(font.fname) for font in reversed(fontManager.ttflist)}
    return {family: installed[family] for family in _FAMILIES if family in installed}


def best_font(text: str, own: Path) -> Path:
    """Return the font that lacks the fewest letters of a text: matplotlib's own font, or an installed one."""
    if not lacking(text, own):
        return own
    return min((own, *east_asian_fonts().values()), key=lambda file: len(lacking(text, file)))


def lacking(text: str, font: Path) -> set[str]:
    """Return the visible letters of a text that a font lacks."""
    if text.isascii():
        return set()
    letters = _letters_of(font)
    return {letter for letter in text if ord(letter) not in letters and _is_visible(letter)}


def warn_of_boxes(letters: Iterable[str]) -> None:
    """Warn that letters are drawn as boxes, once in a process, whatever the number of figures and letters."""
    found = sorted(set(letters))
    if found and not _told:
        few = "".join(found[:5]) + ("…" if len(found) > 5 else "")
        text = f"no installed font has the letters {few}, so figures show boxes in their place"
        if any(east_asian_width(letter) in "WF" and category(letter) == "Lo" for letter in found):  # no emoji
            fonts = mpl.get_cachedir()
            text += f"; install a font such as Noto Sans CJK, and remove {fonts}, where matplotlib lists the fonts"
        warnings.warn(text, stacklevel=1)
    _told.update(found)


@contextmanager
def boxes_for_unknown_letters() -> Iterator[None]:
    """Replace matplotlib's warnings about letters that no font has, one per letter and figure, by ``warn_of_boxes``."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", message="Glyph .* missing")
        yield
    letters = []
    for each in caught:
        if glyph := re.match(r"Glyph (\d+) .* missing", str(each.message)):
            letters.append(chr(int(glyph[1])))
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    warn_of_boxes(filter(_is_visible, letters))


@cache
def _letters_of(font: Path) -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(font)).get_charmap())


def _is_visible(letter: str) -> bool:
    """Tell whether a letter needs a shape of its own: spaces, joiners and accents that are added do not."""
    return category(letter) not in {"Cf", "Mn", "Zs"}
