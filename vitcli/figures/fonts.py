"""Fonts for the letters that matplotlib's own font lacks, where such fonts are installed."""

from functools import cache
from pathlib import Path
from unicodedata import east_asian_width

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
"""With Chinese, Japanese or Korean letters; those with all of them first."""


def is_east_asian(text: str) -> bool:
    """Tell whether a text has Chinese, Japanese or Korean letters."""
    return any(east_asian_width(letter) in "WF" for letter in text)


@cache
def east_asian_fonts() -> dict[str, Path]:
    """The installed families with such letters, and their files; the most complete first."""
    from matplotlib.font_manager import fontManager  # takes a while, and is seldom needed

    installed = {font.name: Path(font.fname) for font in reversed(fontManager.ttflist)}
    return {family: installed[family] for family in _FAMILIES if family in installed}
