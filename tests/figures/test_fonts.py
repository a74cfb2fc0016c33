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

from vitcli.cli.console import show_warning
from vitcli.figures.board import Board, Line
from vitcli.figures.canvas import new_figure
from vitcli.figures.confusion import draw_confusion
from vitcli.figures.fonts import best_font, east_asian_fonts, lacking, warn_of_boxes


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
    assert Line(text="日日日", size=9.6).width == 60
    assert Line(text="day", size=20).font().getname()[0] == "DejaVu Sans"


@pytest.mark.usefixtures("_no_font")
def test_without_such_a_font_figures_are_drawn_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitcli.figures.fonts._told", {"日"})  # the one warning is for the test below
    assert missing("日") != []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw_confusion([(0, 0, 1), (1, 1, 1)], ["日", "月"], tmp_path / "confusion.png", title="日")
    assert Line(text="日", size=20).font().getname()[0] == "DejaVu Sans"


@pytest.mark.usefixtures("_no_font")
def test_letters_that_no_font_has_are_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitcli.figures.fonts._told", set())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for at, text in enumerate(("plain", "日 and 月", "\U0001fabf")):
            board = Board(200, 60)
            board.write([Line(text=text)], 0, 0, 200)
            board.save(tmp_path / "board.svg")
            draw_confusion([(0, 0, 1), (1, 1, 1)], ["a", text], tmp_path / "confusion.png", title=text)
            assert len(caught) == min(at, 1)
    assert str(caught[0].message).startswith("no installed font has the letters 日月, so figures show boxes")
    assert "Noto Sans CJK" in str(caught[0].message)


def test_a_warning_of_boxes_is_one_line_of_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitcli.figures.fonts._told", set())
    monkeypatch.setattr(warnings, "showwarning", show_warning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warn_of_boxes("\U0001fabf")
    said = " ".join(capsys.readouterr().err.split())
    assert said == "warning: no installed font has the letters \U0001fabf, so figures show boxes in their place"


def test_the_search_for_fonts_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    fontManager.findfont("No Such Family", rebuild_if_missing=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("text", "expected"), [("日a月", {"日", "月"}), ("Ωñя café…", set()), ("e\u0301 \u200b", set())]
)
def test_letters_without_a_shape_are_found(text: str, expected: set[str]) -> None:
    own = best_font("", Path(mpl.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"))
    assert lacking(text, own) == expected
