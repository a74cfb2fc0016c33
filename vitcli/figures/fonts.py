"""Installed fonts for the letters that matplotlib's own font lacks."""

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
"""Font families with Chinese, Japanese or Korean letters; families with all three come first."""


def is_east_asian(text: str) -> bool:
    """Tell whether a text has Chinese, Japanese or Korean letters."""
    return any(east_asian_width(letter) in "WF" for letter in text)


@cache
def east_asian_fonts() -> dict[str, Path]:
    """Return the installed fonts with Chinese, Japanese or Korean letters: family -> file, the most complete first."""
    from matplotlib.font_manager import fontManager  # slow to import, and rarely needed

    installed = {font.name: Path(font.fname) for font in reversed(fontManager.ttflist)}
    return {family: installed[family] for family in _FAMILIES if family in installed}
