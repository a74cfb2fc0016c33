"""The page of labels, as a file and in a real browser: what is chosen is what the table has, and it asks nobody."""

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.builders.browser import needs_axe, needs_browser, violations
from vitcli.core.files import plain_cell
from vitcli.figures.label_page import LabelTable, Section, label_page

HOSTILE = [
    "<script>alert(1)</script>.png",
    "</script><img src=x onerror=alert(2)>",
    'a "quoted", b.png',
    "=1+1.png",
    "a\u2028b $title ${x}.png",
    "'=quoted.png",
    " starts;with|others\t.png",
]
CLASSES = ["cat", '"dog", the', "<b>eel"]
LABELS = [0, 1, 2, 0, 1, 2, 0]
TABLE = LabelTable(names=HOSTILE, labels=LABELS, classes=CLASSES, values=["0", "1", "=2"])


def pixels(seed: int, size: int = 8) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (3, size, size), dtype=np.uint8)


def write(path: Path, table: LabelTable = TABLE, *, most_bytes: int = 10**6, size: int = 8) -> list[bool]:
    sections = list[Section]()
    with label_page(
        path,
        title=HOSTILE[0],
        notes=[*HOSTILE],
        table=table,
        file="labels.zoo.fixed.csv",
        sections=sections,
        most_bytes=most_bytes,
    ) as page:
        added = [
            page.add(
                row,
                pixels(row, size),
                split="train",
                reasons=[HOSTILE[0]],
                suggested=(LABELS[row] + 1) % 3 if row < 3 else None,
                overlay=pixels(row, 96) if row == 0 else None,
            )
            for row in range(6)
        ]
        shown = sorted(page.rows)
        sections.append(Section(title="errors", note=HOSTILE[1], entries=[("", [row]) for row in shown[:3]]))
        sections.append(Section(title="groups", note="", entries=[(HOSTILE[1], shown)] if shown else []))
    return added


def test_no_name_leaves_its_element(tmp_path: Path) -> None:
    assert write(tmp_path / "page.html") == [True] * 6
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert "<img" not in text
    assert text.count("<script") == text.count("</script>") == 4 + 6
    assert "http" not in re.sub(r'http-equiv|"data:[^"]*"', "", text)


def test_a_page_that_is_full_says_so(tmp_path: Path) -> None:
    empty = tmp_path / "empty.html"
    assert write(empty, most_bytes=0) == [False] * 6
    most = empty.stat().st_size + 40_000
    added = write(tmp_path / "page.html", most_bytes=most, size=200)
    assert 0 < sum(added) < 6
    assert (tmp_path / "page.html").stat().st_size <= most + 2000  # the sections come after the pictures


def test_small_pictures_are_kept_without_loss(tmp_path: Path) -> None:
    write(tmp_path / "page.html")
    blocks = re.findall(r'class="image">(.*)</script>', (tmp_path / "page.html").read_text(encoding="utf-8"))
    first, second, *_ = map(json.loads, blocks)
    assert first["picture"].startswith("data:image/png")
    assert first["map"].startswith("data:image/jpeg")
    assert second["map"] == ""
    assert first["name"] == HOSTILE[0]


# In a browser


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    write(tmp_path / "page.html")
    browser.get_log("performance")
    browser.get((tmp_path / "page.html").as_uri())
    yield browser
    assert browser.get_log("browser") == []


def card(driver: Any, row: int, at: int = 0) -> Any:
    return driver.find_elements("css selector", f'.card[data-row="{row}"]')[at]


def choose(driver: Any, row: int, kind: str, at: int = 0) -> None:
    card(driver, row, at).find_element("css selector", f'input[value="{kind}"]').click()


def table_of(driver: Any) -> list[list[str]]:
    text = driver.execute_async_script("const done = arguments[0]; table().then(done, (error) => done(String(error)))")
    return [[plain_cell(cell) for cell in row] for row in csv.reader(io.StringIO(text, newline=""))]


@needs_browser
def test_without_a_choice_the_table_has_the_labels(opened: Any) -> None:
    values = ["0", "1", "=2"]
    expected = [[name, values[label]] for name, label in zip(HOSTILE, LABELS, strict=True)]
    assert table_of(opened) == [["path", "label"], *expected]
    assert len(opened.find_elements("css selector", ".card")) == 3 + 6
    assert opened.find_element("id", "counts").text == "0 relabelled, 0 dropped of 7 images"
    assert opened.find_element("css selector", "h1").text == HOSTILE[0]


@needs_browser
def test_choices_are_what_the_table_has(opened: Any) -> None:
    choose(opened, 0, "relabel")
    choose(opened, 1, "drop", at=1)
    choose(opened, 2, "drop")
    choose(opened, 2, "keep", at=1)
    expected = [[name, ["0", "1", "=2"][label]] for name, label in zip(HOSTILE, LABELS, strict=True)]
    expected[0][1] = "1"
    del expected[1]
    assert table_of(opened)[1:] == expected
    assert opened.find_element("id", "counts").text == "1 relabelled, 1 dropped of 7 images"
    for at in (0, 1):  # both cards of an image say the same
        assert card(opened, 1, at).find_element("css selector", 'input[value="drop"]').is_selected()
        assert card(opened, 0, at).find_element("css selector", 'input[value="relabel"]').is_selected()


@needs_browser
def test_a_class_that_is_typed_must_exist(opened: Any) -> None:
    field = card(opened, 5).find_element("css selector", "input[list]")
    choose(opened, 5, "relabel")
    assert card(opened, 5).find_element("css selector", 'input[value="keep"]').is_selected(), "no class is given yet"
    field.send_keys("cow\t")
    assert len(table_of(opened)) == 1 + 7
    assert table_of(opened)[6][1] == "=2"
    choose(opened, 5, "drop")
    field.clear()
    field.send_keys("cow\t")
    assert len(table_of(opened)) == 1 + 6, "what was chosen before holds"
    assert card(opened, 5).find_element("css selector", 'input[value="drop"]').is_selected()
    assert not field.get_property("validity")["valid"]
    field.clear()
    field.send_keys("cat\t")
    assert field.get_property("validity")["valid"]
    assert table_of(opened)[6][1] == "0"
    field.clear()
    field.send_keys("cow\t")
    assert field.get_property("value") == "cow"
    assert not field.get_property("validity")["valid"]
    assert table_of(opened)[6][1] == "0"
    field.clear()
    field.send_keys("cat\t")
    assert card(opened, 5).find_element("css selector", 'input[value="relabel"]').is_selected()


@needs_browser
def test_choices_are_not_lost_without_a_question(browser: Any, tmp_path: Path) -> None:
    write(tmp_path / "page.html")
    browser.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.get((tmp_path / "page.html").as_uri())
    asks = "const event = new Event('beforeunload', {cancelable: true}); dispatchEvent(event); return event.defaultPrevented"
    card(browser, 5).find_element("css selector", "input[list]").send_keys("cow\t")
    assert not browser.execute_script(asks), "nothing is chosen yet"
    choose(browser, 0, "drop")
    assert browser.execute_script(asks)
    browser.execute_async_script("const done = arguments[0]; download().then(done)")
    assert not browser.execute_script(asks)
    choose(browser, 1, "drop")
    assert browser.execute_script(asks)
    choose(browser, 1, "keep")
    choose(browser, 0, "keep")
    assert browser.execute_script(asks), "the table that was downloaded lacks an image"
    browser.execute_script("isDownloaded = true")


@needs_browser
def test_the_table_is_downloaded_with_its_splits_and_nothing_is_requested(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    splits = ["train", "train", "val", "val", "test", "test", "test"]
    table = LabelTable(names=HOSTILE, labels=LABELS, classes=CLASSES, values=CLASSES, splits=splits)
    write(tmp_path / "page.html", table)
    browser.get_log("performance")
    browser.get((tmp_path / "page.html").as_uri())
    browser.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.find_element("id", "download").click()
    file = tmp_path / "labels.zoo.fixed.csv"
    WebDriverWait(browser, 20, 0.05).until(lambda _: file.exists() and file.stat().st_size)
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))
    assert [row["split"] for row in rows] == splits
    assert [plain_cell(row["path"]) for row in rows] == HOSTILE
    assert [row["label"] for row in rows] == [CLASSES[label] for label in LABELS]
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [each["params"]["request"]["url"] for each in sent if each["method"] == "Network.requestWillBeSent"]
    assert {url.partition(":")[0] for url in urls if "/page.html" not in url} <= {"data", "blob", "chrome"}


@needs_browser
@needs_axe
def test_the_page_can_be_read_by_everyone(opened: Any) -> None:
    assert violations(opened) == []
