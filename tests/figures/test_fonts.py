"""Letters that matplotlib's own font lacks; the font that has one of them is made here."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import fontManager

from vitcli.figures.board import Line
from vitcli.figures.canvas import new_figure
from vitcli.figures.confusion import draw_confusion
from vitcli.figures.fonts import east_asian_fonts, is_east_asian


@pytest.fixture
def _no_font(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing but what comes with matplotlib."""
    own = [font for font in fontManager.ttflist if font.name.startswith(("DejaVu", "STIX", "cm"))]
    monkeypatch.setattr(fontManager, "ttflist", own)
    with mpl.rc_context():
        east_asian_fonts.cache_clear()
        yield
    east_asian_fonts.cache_clear()


@pytest.fixture
def _one_font(_no_font: None, tmp_path: Path) -> None:
    """A font with one letter, which is as wide as high."""
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0))
    for corner in ((900, 0), (900, 800), (100, 800)):
        pen.lineTo(corner)
    pen.closePath()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "sun"])
    font.setupCharacterMap({ord("日"): "sun"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "sun": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (500, 0), "sun": (1000, 100)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Noto Sans CJK JP", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(tmp_path / "sun.ttf")
    fontManager.addfont(tmp_path / "sun.ttf")


def missing(text: str) -> list[str]:
    """What matplotlib says of letters that it has no font for."""
    figure = new_figure(2, 1)
    figure.suptitle(text)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FigureCanvasAgg(figure).draw()
    return [str(warning.message) for warning in caught]


@pytest.mark.usefixtures("_one_font")
def test_figures_take_letters_from_a_font_that_has_them() -> None:
    assert missing("日 and day") == []
    assert {message.partition(" ")[0] for message in missing("月")} == {"Glyph"}  # which that font lacks, too


@pytest.mark.usefixtures("_one_font")
def test_boards_take_letters_from_a_font_that_has_them() -> None:
    assert Line(text="日日日", size=20).width == 60
    assert Line(text="day", size=20).font.getname()[0] == "DejaVu Sans"


@pytest.mark.usefixtures("_no_font")
def test_without_such_a_font_figures_are_drawn_all_the_same(tmp_path: Path) -> None:
    assert missing("日") != []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion([(0, 0, 1), (1, 1, 1)], ["日", "月"], tmp_path / "confusion.png", title="日")
    assert Line(text="日", size=20).font.getname()[0] == "DejaVu Sans"


@pytest.mark.parametrize(
    ("text", "expected"), [("日", True), ("한", True), ("カ", True), ("Ωñя café…", False), ("", False)]
)
def test_letters_are_told_apart(text: str, *, expected: bool) -> None:
    assert is_east_asian(text) is expected
