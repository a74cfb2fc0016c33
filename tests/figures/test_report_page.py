"""The page about runs, as a file and in a real browser: what it shows is what was given, and it asks nobody."""

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from tests.builders.browser import (
    ALL_BUT_COLOURS,
    ONLY_COLOURS,
    in_colours,
    needs_axe,
    needs_browser,
    violations,
)
from vitcli.core.events import EpochRecord
from vitcli.figures.line_chart import Axis, Line, line_chart
from vitcli.figures.markup import element, sortable_table
from vitcli.figures.offline_page import picture_address
from vitcli.figures.report_page import report_page
from vitcli.figures.report_sections import Judgement, Picture, ReportedRun, RunTable

HOSTILE = ["</script><img src=x onerror=alert(2)>", "\"]};// 'quoted' $title ${x}", "Grüße\u202e|`<b>&amp;"]
CLASSES = [*HOSTILE, "seven"]
MANY_CLASSES = [*CLASSES, *(f"Äffchen {at}" for at in range(12))]
NAMES = ["<script>alert(1)</script>.png", "a\u2028b\n.png", 'Ä "c".png']
CONFUSION = ((0, 0, 2), (0, 3, 1), (1, 1, 12), (2, 0, 1), (3, 0, 2), (3, 1, 1), (3, 3, 1000))


def records(epochs: int, shift: float = 0) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=epoch,
            learning_rate=0.1,
            train_loss=2 / epoch + shift,
            train_accuracy=1 - 1 / epoch,
            val_loss=2.5 / epoch + shift,
            val_accuracy=1 - 1 / (epoch + 1),
            seconds=1,
            images_per_second=1,
            data_share=0,
            is_best=epoch == epochs,
        )
        for epoch in range(1, epochs + 1)
    ]


def picture(truth: int, predicted: int, confidence: float, name: str = NAMES[0], *, has_map: bool = False) -> Picture:
    pixels = np.random.default_rng(truth).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    address = picture_address(pixels)
    return Picture(
        name=name,
        truth=truth,
        predicted=predicted,
        confidence=confidence,
        of_truth=confidence if truth == predicted else 0.01,
        address=address,
        map_address=address if has_map else "",
        is_small=True,
    )


PICTURES = [
    picture(0, 3, 0.9, NAMES[0], has_map=True),
    picture(3, 0, 0.7, NAMES[1]),
    picture(3, 0, 0.8, NAMES[2], has_map=True),
    picture(3, 1, 0.95, "<i>c"),
    picture(3, 3, 0.6, "sure"),
    picture(3, 3, 0.5, "unsure"),
]


def judgement(classes: list[str] = CLASSES) -> Judgement:
    support = [sum(count for truth, _, count in CONFUSION if truth == at) for at in range(len(classes))]
    right = [sum(count for truth, given, count in CONFUSION if truth == given == at) for at in range(len(classes))]
    return Judgement(
        summary=f"1,019 images of {HOSTILE[0]}",
        scores=[("accuracy", "98.33 %", "97.00 % to 99.00 %"), ("loss", "0.1", "-")],
        classes=classes,
        class_rows=[(n, k, k / max(n, 1), 0.5, 0.25, None) for n, k in zip(support, right, strict=True)],
        confusion=CONFUSION,
        bins=[(10, 0.3, 0.2), (1000, 0.9, 0.95)],
        calibration="not calibrated",
        pictures=PICTURES,
        pictures_note=HOSTILE[0],
        worst_note=HOSTILE[1],
        map_legend=f"bright {HOSTILE[0]}",
        more_maps=f"vit report {HOSTILE[1]} --worst 5",
    )


def reported(name: str = HOSTILE[0], shift: float = 0) -> ReportedRun:
    return ReportedRun(
        name=name,
        facts={"model": HOSTILE[0], HOSTILE[1]: "value"},
        settings_title="settings that differ",
        settings=[(HOSTILE[0], HOSTILE[1], HOSTILE[2])],
        commands={"again": f"vit train {HOSTILE[0]}"},
        members=[(HOSTILE[0], "finished", "3", "90.00 %", "-"), ("b", "failed", "1,000", "-", "-")],
        curves={name: records(5, shift)},
        judgement=judgement(),
    )


def page(*runs: ReportedRun) -> str:
    tables = [RunTable(title=HOSTILE[0], headings=("metric", *HOSTILE[:2]), rows=[HOSTILE], notes=HOSTILE)]
    return report_page(runs, title=HOSTILE[0], notes=HOSTILE, comparison=tables)


# The file


def test_no_name_leaves_its_element() -> None:
    text = page(reported(), reported("other"))
    assert "<script>alert(1)" not in text
    assert "<img src=x" not in text
    assert "<b>&amp;" not in text
    assert "\u202e" not in text  # the direction of writing is shown as an escape
    cells = len({(each.truth, each.predicted) for each in PICTURES})
    assert text.count("<script") == text.count("</script>") == 2 + 2 * cells
    assert "http" not in re.sub(r'http-equiv|"data:[^"]*"', "", text)


def test_texts_are_escaped_and_html_is_not() -> None:
    assert element("b", "<i>", element("i", 'a"'), title='"') == '<b title="&quot;">&lt;i&gt;<i>a&quot;</i></b>'
    assert element("td", "1", class_=None, data_cell="0-1") == '<td data-cell="0-1">1</td>'


def test_a_table_has_headings_of_rows_and_columns() -> None:
    table = sortable_table("Title", ("name", "count"), [("a", "1")], numbers={1}, filtered_by="Only")
    assert "<caption>Title</caption>" in table
    assert '<th scope="col" class="number"><button type="button" class="sort">count</button></th>' in table
    assert '<th scope="row">a</th><td class="number">1</td>' in table
    assert 'type="search"' not in table  # a short table needs no filter
    assert 'type="search"' in sortable_table("Title", ("name",), [("a",)] * 16, filtered_by="Only")


def test_a_chart_says_its_numbers() -> None:
    lines = [Line(name=HOSTILE[0], points=[(1, 4.0), (2, 2.0), (3, float("nan"))]), Line(name="b", points=[(2, 3.0)])]
    chart = line_chart("one", HOSTILE[1], lines, across=Axis(name="epoch", is_whole=True), up=Axis(name="loss"))
    (line, _) = re.findall(r'points="([^"]*)"', chart)
    ((left, top), (right, bottom)) = [tuple(map(float, point.split(","))) for point in line.split()]
    assert left < right
    assert top < bottom  # a lower value is further down
    assert chart.count("<circle") == 1  # a single point would be no line
    rows = re.findall(r"<tr>(.*?)</tr>", chart)[1:]
    assert [re.findall(r">([^<>]+)</t[hd]>", row) for row in rows] == [
        ["1", "4", "-"],
        ["2", "2", "3"],
        ["3", "nan", "-"],
    ]
    assert "<img" not in chart


def test_runs_differ_by_their_numbers_as_colours_repeat() -> None:
    runs = [reported(f"run {at}", at) for at in range(10)]
    chart = re.findall(r'<figure class="chart">.*?</figure>', page(*runs), flags=re.DOTALL)[0]
    numbers = [str(at) for at in range(1, 11) for _ in range(2)]  # training and validation
    assert re.findall(r'class="label">([^<]+)</text>', chart) == numbers
    assert re.findall(r"<b>(\d+)</b> run (\d)", chart) == [(number, str(int(number) - 1)) for number in numbers]
    assert 'class="label"' not in report_page([reported()], title="", notes=[])


@pytest.mark.parametrize("epochs", [1, 2, 3, 40])
def test_labels_of_lines_that_lie_close_together_are_apart(epochs: int) -> None:
    lines = [
        Line(name=str(at), points=[(x, 1 / x + 0.01 * at) for x in range(1, epochs + 1)], label=str(at // 2))
        for at in range(6)
    ]
    chart = line_chart("c", "c", lines, across=Axis(name="x"), up=Axis(name="y"))
    found = re.findall(r'<text x="([\d.]+)" y="([\d.]+)"[^>]*class="label">(\d)</text>', chart)
    assert [label for *_, label in found] == ["0", "0", "1", "1", "2", "2"]
    places = [(float(x), float(y)) for x, y, _ in found]
    assert min(math.dist(one, other) for one, other in combinations(places, 2)) >= 14
    assert all(0 < x < 460 and 0 < y < 260 for x, y in places)


@pytest.mark.parametrize("points", [[], [(1, 0.0)], [(1, 2.0), (2, 2.0)], [(1, 0.0), (9, 1e-9)]])
def test_a_chart_of_few_or_equal_values_is_drawn(points: list[tuple[float, float]]) -> None:
    chart = line_chart("c", "c", [Line(name="c", points=points)], across=Axis(name="x"), up=Axis(name="y"))
    assert "nan" not in chart


def test_many_classes_are_listed_by_their_mistakes() -> None:
    classes = [f"class {at}" for at in range(1000)]
    run = replace(reported(), judgement=judgement(classes))
    text = page(run)
    assert "Confusion matrix" not in text
    rows = re.findall(r"<tr><th scope=\"row\">(class \d+)</th><td>(class \d+)</td>", text)
    assert rows == [("class 3", "class 0"), ("class 0", "class 3"), ("class 2", "class 0"), ("class 3", "class 1")]
    assert len(text) < 1_500_000


# In a browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """That of a page about a run with few classes and another with many."""
    path = tmp_path_factory.mktemp("report") / "page.html"
    other = replace(reported("other", 1), judgement=judgement(MANY_CLASSES))
    path.write_text(page(reported(), other), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Any]:
    browser.get_log("performance")
    browser.get(address)
    yield browser
    assert browser.get_log("browser") == []


@pytest.fixture
def resizable(opened: Any) -> Iterator[Any]:
    """The page in a window whose size and colours a test may change."""
    yield opened
    in_colours(opened, "")
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def until(driver: Any, is_so: Callable[[], bool]) -> None:
    """Wait until something is so, at most 5 seconds."""
    from selenium.webdriver.support.wait import WebDriverWait

    WebDriverWait(driver, 5, poll_frequency=0.05).until(lambda _: is_so())


def texts(driver: Any, selector: str) -> list[str]:
    script = "return [...document.querySelectorAll(arguments[0])].map((each) => each.textContent)"
    return list(driver.execute_script(script, selector))


@needs_browser
def test_the_page_asks_nobody(opened: Any) -> None:
    find(opened, '[data-cell="0-3-wrong"]').click()
    sent = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"]
    assert urls
    assert {url.partition(":")[0] for url in urls if not url.endswith("/page.html")} <= {"data", "chrome"}


@needs_browser
def test_a_cell_shows_its_pictures_and_counts_what_is_left_out(opened: Any) -> None:
    find(opened, '#r0-confusion .matrix [data-cell="0-3-0"]').click()
    assert texts(opened, "#cell-title") == ["2 images: seven predicted as " + HOSTILE[0]]
    assert find(opened, "#cell").accessible_name == "2 images: seven predicted as " + HOSTILE[0]
    assert texts(opened, "#cell-note") == ["all 2, the surest first"]
    assert texts(opened, "#cell .name") == [NAMES[2], "a\\u2028b\n.png"]
    pictures = opened.execute_script(
        "return [...document.querySelectorAll('#cell img')].map((each) => each.naturalWidth)"
    )
    assert pictures == [8, 8, 8]  # the first one has a map
    assert opened.execute_script("return document.querySelector('#cell').contains(document.activeElement)")
    clicked(opened, (4, 4), (4, 4))
    assert opened.execute_script("return document.querySelector('#cell').open"), "the edge is a part of the dialog"
    clicked(opened, (4, 4), (-4, 4))
    assert opened.execute_script("return document.querySelector('#cell').open"), "text was marked"
    clicked(opened, (-4, 4), (-4, 4))
    assert not opened.execute_script("return document.querySelector('#cell').open")
    find(opened, '#r0-confusion .matrix [data-cell="0-3-0"]').click()
    find(opened, "#close").click()
    assert opened.execute_script("return document.activeElement.dataset.cell") == "0-3-0"
    find(opened, '#r0-classes [data-cell="0-3-3"]').click()
    assert texts(opened, "#cell-note") == ["2 of 1000, the least sure first; left out of this page: 998"]
    assert texts(opened, "#cell .name") == ["unsure", "sure"]
    assert texts(opened, "#cell-maps") == ["Maps are drawn of mistakes only."]


def clicked(driver: Any, down: tuple[int, int], up: tuple[int, int]) -> None:
    """Press and release the pointer at distances from the upper left corner of the dialog."""
    script = """
        const dialog = document.querySelector('#cell'), {left, top} = dialog.getBoundingClientRect();
        const at = ([x, y]) => ({clientX: left + x, clientY: top + y, bubbles: true});
        dialog.dispatchEvent(new PointerEvent('pointerdown', at(arguments[0])));
        dialog.dispatchEvent(new MouseEvent('click', at(arguments[1])));
    """
    driver.execute_script(script, down, up)


@needs_browser
def test_all_mistakes_of_a_class_are_one_click_away(opened: Any) -> None:
    button = find(opened, '#r1-classes [data-cell="1-3-wrong"]')
    button.send_keys("\ue007")  # Enter
    assert texts(opened, "#cell-note") == ["all 3, the surest first"]
    assert texts(opened, "#cell .name") == ["<i>c", NAMES[2], "a\\u2028b\n.png"]
    assert "predicted " + HOSTILE[1] in texts(opened, "#cell figcaption")[0]
    (said,) = texts(opened, "#cell-maps")
    why = "2 of 3 have no map, because this page has maps of 2 mistakes only"
    assert said == f"bright {HOSTILE[0]} {why}: vit report {HOSTILE[1]} --worst 5 draws more."
    opened.switch_to.active_element.send_keys("\ue00c")  # Escape
    assert not opened.execute_script("return document.getElementById('cell').open")


@needs_browser
def test_tables_are_sorted_by_number_or_name(opened: Any) -> None:
    column = "#r0-classes tbody tr > :nth-child(2)"
    others = texts(opened, "#r1-classes tbody th")
    heading = find(opened, "#r0-classes thead th:nth-child(2)")
    assert heading.get_attribute("aria-sort") is None
    heading.find_element("css selector", "button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert texts(opened, column) == ["1,003", "12", "3", "1"]
    heading.find_element("css selector", "button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert texts(opened, column) == ["1", "3", "12", "1,003"]
    for order in ("descending", "ascending"):  # a cell without a number is last in both
        find(opened, "#r0-training thead th:nth-child(4) button").click()
        assert find(opened, "#r0-training thead th:nth-child(4)").get_attribute("aria-sort") == order
        assert texts(opened, "#r0-training tbody td:nth-child(4)") == ["90.00 %", "-"]
    find(opened, "#r0-classes thead th:first-child button").click()
    assert heading.get_attribute("aria-sort") is None
    rising = texts(opened, "#r0-classes tbody th")
    find(opened, "#r0-classes thead th:first-child button").click()
    assert texts(opened, "#r0-classes tbody th") == rising[::-1] != rising
    assert texts(opened, "#r1-classes tbody th") == others
    find(opened, "#r0-confusion .matrix thead th:nth-child(2) button").click()
    assert texts(opened, "#r0-confusion .matrix tbody td:nth-child(2)") == ["2", "2", "1", "0"]


@needs_browser
def test_rows_are_filtered_by_name(opened: Any) -> None:
    find(opened, "#r1-classes .filter").send_keys("äffchen 1")
    assert texts(opened, "#r1-classes tbody tr:not([hidden]) th") == [f"Äffchen {at}" for at in (1, 10, 11)]
    assert texts(opened, "#r1-classes .filtered") == ["3 of 16 rows"]


@needs_browser
@needs_axe
def test_the_page_can_be_read_by_everyone(resizable: Any) -> None:
    """In light colours by all rules, in dark ones by those about colours, on a narrow screen by the others."""
    driver = resizable
    driver.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    for scheme, width, rules in (("light", 1200, {}), ("dark", 1200, ONLY_COLOURS), ("light", 400, ALL_BUT_COLOURS)):
        in_colours(driver, scheme, width)
        assert violations(driver, rules) == [], (scheme, width)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= width
        find(driver, '[data-cell="0-3-wrong"]').click()
        assert violations(driver, rules, within="#cell") == [], (scheme, width)
        find(driver, "#close").click()


@needs_browser
def test_a_wide_table_scrolls_in_its_box_and_shows_that_there_is_more(resizable: Any) -> None:
    driver = resizable
    in_colours(driver, "light", 420)
    box = find(driver, "#r1-confusion .matrix .scroll")
    shadows = (
        "const box = arguments[0]; return ['::before', '::after'].map((edge) => getComputedStyle(box, edge).opacity)"
    )
    until(driver, lambda: driver.execute_script(shadows, box) == ["0", "1"])
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 420
    width = driver.execute_script("return arguments[0].querySelector('caption').getBoundingClientRect().width", box)
    assert width <= 420, "the caption is wrapped"
    driver.execute_script("arguments[0].focus()", box)
    driver.switch_to.active_element.send_keys("\ue014")  # right
    until(driver, lambda: driver.execute_script(shadows, box) == ["1", "1"])
    driver.execute_script("arguments[0].scrollLeft = 1e6", box)
    until(driver, lambda: driver.execute_script(shadows, box) == ["1", "0"])
    in_colours(driver, "light", 1200)
    until(driver, lambda: driver.execute_script(shadows, find(driver, "#r1-scores .scroll")) == ["0", "0"])


@needs_browser
@pytest.mark.parametrize(("width", "columns"), [(420, 1), (1200, 4)])
def test_pictures_use_the_whole_width(resizable: Any, width: int, columns: int) -> None:
    opened = resizable
    in_colours(opened, "light", width)
    find(opened, '#r0-classes [data-cell="0-3-wrong"]').click()
    script = (
        "return [...document.querySelectorAll('#cell, #cell-pictures, #cell figure')].map((each) => each.clientWidth)"
    )
    dialog, pictures, figure, *_ = opened.execute_script(script)
    assert dialog >= width - 3 * 16 - 16, "a margin on each side, and a scrollbar"
    assert figure == pytest.approx((pictures - 16 * (columns - 1)) / columns, abs=1)


@needs_browser
def test_print_has_every_section_and_no_controls(resizable: Any) -> None:
    opened = resizable
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    hidden = "return [...document.querySelectorAll('nav, .tools, dialog')].every((each) => !each.checkVisibility())"
    assert opened.execute_script(hidden)
    assert opened.execute_script(
        "return [...document.querySelectorAll('section')].every((each) => each.checkVisibility())"
    )
