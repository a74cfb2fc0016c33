"""The page of attention maps, as a file and in a real browser: what it shows is what the arrays say, and it asks nobody."""

import base64
import io
import json
import re
import tracemalloc
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.builders.browser import needs_axe, needs_browser, violations
from vitcli.figures.attention_overlay import overlay, panel, patch_box
from vitcli.figures.attention_page import attention_page, packed_attention
from vitcli.figures.attention_style import MapPicture, Style, Subject, scale_of

GRID = (4, 6)
LAYERS, HEADS, PREFIX = ["block 0", "block 5", "last block"], ["head 0", "head 1"], ["class token", "register 0"]
HOSTILE = [
    "<script>alert(1)</script>",
    '"]};//',
    "</script><img src=x onerror=alert(2)>",
    "a\u2028b",
    "&lt;b&gt; $title",
    "x" * 300,
]


def probabilities(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    logits = np.random.default_rng(seed).normal(size=shape) * 2
    return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


def weights(grid: tuple[int, int] = GRID, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(grid, dtype=np.float32) / 24


def picture(name: str = "cat.jpg", *, shape: tuple[int, int, int] = (3, 32, 48), **facts: Any) -> Subject:
    pixels = np.random.default_rng(len(name)).integers(0, 256, shape, dtype=np.uint8)
    return Subject(name=name, pixels=pixels, **{"predicted": "cat", "probability": 0.9, "truth": "cat"} | facts)


ATTENTION = probabilities(3, 2, 26, 26)
MAPS = [
    MapPicture(method="relevance", target="cat", weights=weights(seed=1), unit="relevance per patch"),
    MapPicture(method="relevance", target="dog", weights=weights(seed=2)),
    MapPicture(method="ig", target="dog", weights=weights(seed=3) - 0.02, is_signed=True),
    MapPicture(method="rollout", weights=weights(seed=4)),
]
SMALL = Style(min_size=192)
"""A canvas of so few pixels is drawn sooner than one of the usual size."""


def write(path: Path, *, style: Style | None = None, names: list[str] | None = None) -> None:
    with attention_page(path, title=HOSTILE[0], notes=[*HOSTILE], style=style or SMALL) as page:
        page.add(picture(), MAPS, attention=ATTENTION, layers=LAYERS, heads=HEADS, prefix=PREFIX)
        page.add(
            picture("dog.png", shape=(1, 8, 8), predicted="dog"),
            [MapPicture(method="raw", weights=weights((2, 2)))],
            attention=probabilities(1, 1, 4, 4),
            layers=["only"],
            heads=["only head"],
        )
        page.add(picture("plain.png"), [MapPicture(method="raw", weights=np.full(GRID, 0.25, dtype=np.float32))])
        for name in names or ():
            maps = [MapPicture(method=name, target=name, weights=weights(), unit=name)]
            page.add(
                picture(name, predicted=name),
                maps,
                attention=ATTENTION,
                layers=[name] * 3,
                heads=[name] * 2,
                prefix=[name] * 2,
            )


# The file


def facts_of(path: Path) -> list[dict[str, Any]]:
    found = re.findall(r'<script type="application/json" class="image">(.*)</script>', path.read_text(encoding="utf-8"))
    return [json.loads(each) for each in found]


def unpacked(packed: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    raw = zlib.decompress(packed)
    rows = int(np.prod(shape[:-1]))
    largest = np.frombuffer(raw, "<f4", count=rows).reshape(*shape[:-1], 1)
    return np.frombuffer(raw, np.uint8, offset=4 * rows).reshape(shape) * (largest / np.float32(255))


@pytest.mark.parametrize("scale", [1, 1e-30, 0])
def test_attention_is_within_what_the_page_says(scale: float) -> None:
    attention = ATTENTION * np.float32(scale)
    error = np.abs(unpacked(packed_attention(attention), attention.shape) - attention)
    assert (error <= attention.max(-1, keepdims=True) * (1 / 510 + 1e-6)).all()


def test_attention_without_numbers_is_none() -> None:
    with pytest.raises(AssertionError, match="NaN"):
        packed_attention(np.full((1, 1, 2, 2), np.nan, dtype=np.float32))


def test_maps_are_exact_and_pictures_without_loss(tmp_path: Path) -> None:
    write(tmp_path / "page.html")
    first, *_ = facts_of(tmp_path / "page.html")
    for stored, given in zip(first["maps"], MAPS, strict=True):
        assert np.array_equal(np.array(stored["values"], dtype=np.float32).reshape(GRID), given.weights)
    with Image.open(io.BytesIO(base64.b64decode(first["png"].partition(",")[2]))) as image:
        assert np.array_equal(np.asarray(image).transpose(2, 0, 1), picture().pixels)


@pytest.mark.parametrize(
    ("most_bytes", "heads", "words"),
    [
        (ATTENTION.size, HEADS, "within 1/510"),
        (ATTENTION.size - 1, ["mean of 2 heads"], "The 2 heads are shown as their mean"),
        (ATTENTION.size // 2 - 1, None, "left out"),
    ],
)
def test_attention_that_is_too_large(tmp_path: Path, most_bytes: int, heads: list[str] | None, words: str) -> None:
    with attention_page(tmp_path / "page.html", title="", most_bytes=most_bytes) as page:
        page.add(picture(), MAPS, attention=ATTENTION, layers=LAYERS, heads=HEADS, prefix=PREFIX)
    (facts,) = facts_of(tmp_path / "page.html")
    assert words in facts["attentionNote"]
    assert (facts["attention"] and facts["attention"]["heads"]) == heads
    packed = re.findall(r'<script type="text/plain">(.*)</script>', (tmp_path / "page.html").read_text())
    if heads is None:
        assert packed == []
    else:
        expected = ATTENTION if heads == HEADS else ATTENTION.mean(1, keepdims=True)
        assert np.allclose(unpacked(base64.b64decode(packed[0]), expected.shape), expected, atol=1 / 510)


def test_a_page_is_there_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("the old one")

    def fail() -> None:
        with attention_page(path, title="") as page:
            page.add(picture(), MAPS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [each.name for each in tmp_path.iterdir()] == ["page.html"]
    assert path.read_text() == "the old one"


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        with attention_page(tmp_path / "page.html", title="") as page:
            for _ in range(count):
                page.add(
                    picture(shape=(3, 160, 240)), MAPS, attention=ATTENTION, layers=LAYERS, heads=HEADS, prefix=PREFIX
                )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    one, many = peak(1), peak(8)
    assert (tmp_path / "page.html").stat().st_size > one / 2, "eight pictures are much, compared to one"
    assert many < 1.2 * one


def test_no_name_leaves_its_element(tmp_path: Path) -> None:
    write(tmp_path / "page.html", names=[*HOSTILE, "\udc80"])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "alert(1)</script>" not in text
    assert "<img" not in text
    assert "\u2028" not in text.replace("<p>a\u2028b</p>", "")
    assert text.count("<script") == text.count("</script>") == 2 + 3 + 2 + 2 * 7
    assert "http" not in re.sub(r'http-equiv|"data:[^"]*"', "", text)


# In a browser


class Shown:
    """The page in the browser, as a person sees it."""

    def __init__(self, driver: Any, path: Path) -> None:
        self.driver = driver
        self.path = path
        self.is_pointed_at = True  # by the test before, maybe

    def load(self) -> None:
        self.driver.get(self.path.as_uri())
        self.wait("ground && part('name').textContent === images[0].name && attention")

    def begin(self) -> None:
        """Show the first image, with all choices as they are after loading, which takes longer."""
        if self.driver.current_url != self.path.as_uri():
            self.load()
            self.driver.execute_script("window.first = {...state}")
        if self.is_pointed_at:
            self.leave()
        self.driver.execute_async_script(
            """const done = arguments[0];
            document.activeElement.blur();
            window.scrollTo(0, 0);
            Object.assign(state, first);
            select(0).then(done);"""
        )

    def element(self, name: str) -> Any:
        return self.driver.find_element("id", name)

    def text(self, name: str) -> str:
        return self.element(name).get_property("textContent")

    def wait(self, condition: str) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.driver, 20, 0.05).until(lambda driver: driver.execute_script(f"return {condition}"))

    def image(self, index: int) -> None:
        self.driver.find_elements("css selector", "nav button")[index].click()
        name = f"images[{index}]"
        self.wait(f"ground && part('name').textContent === {name}.name && (!{name}.attention || attention)")

    def choose(self, words: str) -> None:
        script = """return [...document.querySelectorAll(".choice")].find(
            (each) => each.textContent === arguments[0] && each.checkVisibility())"""
        self.driver.execute_script(script, words).click()

    def point(self, patch: tuple[int, int], grid: tuple[int, int] = GRID, *, click: bool = False) -> None:
        from selenium.webdriver import ActionChains

        canvas = self.element("map")
        size = canvas.size
        x, y = (
            (at + 0.5) / count * size[side] - size[side] / 2
            for at, count, side in zip(patch[::-1], grid[::-1], ("width", "height"), strict=True)
        )
        chain = ActionChains(self.driver, duration=0).move_to_element_with_offset(canvas, round(x), round(y))
        self.is_pointed_at = True
        (chain.click() if click else chain).perform()

    def select(self, index: int, then: str = "null") -> Any:
        """Show an image without a click, and return the value of an expression."""
        script = (
            f"const done = arguments[1]; select(arguments[0]).then(() => done({then}), (error) => done(String(error)));"
        )
        return self.driver.execute_async_script(script, index)

    def leave(self) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(self.driver, duration=0).move_to_element(self.element("name")).perform()
        self.is_pointed_at = False

    def value(self, what: str) -> float:
        """The number on the line that begins so."""
        (found,) = re.findall(rf"(?:^|: |, ){re.escape(what)}:? ([^\s,]+)", self.text("value"), re.MULTILINE)
        return float(found)

    def canvas(self) -> NDArray[np.uint8]:
        url = self.driver.execute_script("return part('map').toDataURL('image/png')")
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as image:
            return np.asarray(image.convert("RGB"))

    def set(self, name: str, value: float) -> None:
        self.driver.execute_script(
            "const it = part(arguments[0]); it.value = arguments[1]; it.dispatchEvent(new Event('input'));", name, value
        )

    def head(self, words: str) -> None:
        script = """const it = part("head");
            it.value = [...it.options].find((each) => each.textContent === arguments[0]).value;
            it.dispatchEvent(new Event("change"));"""
        self.driver.execute_script(script, words)


@pytest.fixture(scope="module")
def loaded(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    path = tmp_path_factory.mktemp("page") / "a page & more.html"
    write(path, names=HOSTILE)
    browser.get_log("performance")  # what the browser itself did on starting
    return Shown(browser, path)


@pytest.fixture
def shown(loaded: Shown) -> Iterator[Shown]:
    """The first image as it is seen at first; afterwards, that nobody complained."""
    loaded.begin()
    yield loaded
    assert loaded.driver.get_log("browser") == []


def drawn(one: MapPicture, style: Style | None = None, name: str = "cat.jpg") -> NDArray[np.int_]:
    style = style or SMALL
    image = panel(picture(name).pixels, least=style.min_size)
    scale = scale_of(one.weights, style.norm, is_signed=one.is_signed)
    return overlay(image, one, style, scale).astype(int)


def row_of(query: int, layer: int, head: int | None) -> MapPicture:
    """What a token attends to, of which the patches are shown."""
    heads = ATTENTION[layer].mean(0) if head is None else ATTENTION[layer, head]
    return MapPicture(method="attention", weights=heads[query, len(PREFIX) :].reshape(GRID))


def differences(canvas: NDArray[np.uint8], expected: NDArray[np.int_], *framed: tuple[int, int]) -> NDArray[np.int_]:
    """Between two pictures, apart from the frames around patches."""
    apart = np.abs(canvas.astype(int) - expected)
    for patch in framed:
        left, top, right, bottom = (int(at) for at in patch_box(patch, GRID, (0, 0, canvas.shape[1], canvas.shape[0])))
        apart[max(top - 4, 0) : bottom + 4, max(left - 4, 0) : right + 4] = 0
    return apart


@needs_browser
def test_every_map_has_the_pixels_of_the_figure(shown: Shown) -> None:
    for method, target, one in (
        ("relevance", "cat", MAPS[0]),
        ("relevance", "dog", MAPS[1]),
        ("ig", "", MAPS[2]),
        ("rollout", "", MAPS[3]),
    ):
        shown.choose(method)
        if target:
            shown.choose(target)
        assert differences(shown.canvas(), drawn(one)).max() <= 1, one.name
        assert shown.text("shown").startswith(one.name)
    assert not shown.element("targets").is_displayed(), "rollout knows no class"


@needs_browser
def test_the_pointer_shows_what_its_patch_attends_to(shown: Shown) -> None:
    for patch in ((0, 0), (2, 4), (3, 5)):
        shown.point(patch)
        query = 2 + patch[0] * 6 + patch[1]
        expected = row_of(query, 2, None)
        bound = float(ATTENTION[2, :, query].max()) / 510
        assert shown.value("attention to itself") == pytest.approx(float(expected.weights[patch]), abs=bound, rel=0.006)
        assert shown.value("relevance for cat") == pytest.approx(MAPS[0].weights[patch], rel=0.006)
        assert shown.value("largest") == pytest.approx(float(expected.weights.max()), abs=bound, rel=0.006)
        assert shown.value("class token") == pytest.approx(
            float(ATTENTION[2, :, query, 0].mean()), abs=bound, rel=0.006
        )
        assert f"patch at row {patch[0]}, column {patch[1]}" in shown.text("shown")
        apart = differences(shown.canvas(), drawn(expected), patch)
        assert apart.max() <= 12
        assert (
            differences(shown.canvas(), drawn(row_of(query + 1 if query < 25 else 2, 2, None)), patch).mean()
            > 5 * apart.mean()
        )
    shown.leave()
    assert differences(shown.canvas(), drawn(MAPS[0])).max() <= 1, "leaving shows the map again"


@needs_browser
def test_layers_heads_and_tokens_before_the_patches(shown: Shown) -> None:
    shown.choose("attention of the register 0")
    for layer, head in ((2, None), (0, None), (0, 1), (1, 0)):
        shown.set("layer", layer)
        shown.head(f"mean of {len(HEADS)} heads" if head is None else HEADS[head])
        assert shown.text("layer-name") == LAYERS[layer]
        assert differences(shown.canvas(), drawn(row_of(1, layer, head))).max() <= 12
        assert shown.text("shown").startswith(
            f"{LAYERS[layer]}, {f'mean of {len(HEADS)} heads' if head is None else HEADS[head]}"
        )
    shown.point((3, 1))
    assert shown.value("attention") == pytest.approx(
        float(ATTENTION[1, 0, 1, 2 + 19]), abs=float(ATTENTION[1, 0, 1].max()) / 510, rel=0.006
    )
    shown.choose("the map")
    assert differences(shown.canvas(), drawn(MAPS[0])).max() <= 1


@needs_browser
def test_a_patch_is_held_and_let_go(shown: Shown) -> None:
    shown.point((1, 2), click=True)
    shown.point((3, 3))
    query = 2 + 8
    bound = float(ATTENTION[2, :, query].max()) / 510
    assert shown.value("attention") == pytest.approx(float(row_of(query, 2, None).weights[3, 3]), abs=bound, rel=0.006)
    assert differences(shown.canvas(), drawn(row_of(query, 2, None)), (1, 2), (3, 3)).max() <= 12
    shown.choose("attention of the patch at row 1, column 2")
    shown.point((1, 2), click=True)
    shown.leave()
    assert differences(shown.canvas(), drawn(MAPS[0])).max() <= 1
    assert "patch" not in shown.text("queries")


@needs_browser
def test_the_keyboard_does_all_of_it(shown: Shown) -> None:
    from selenium.webdriver.common.keys import Keys

    canvas = shown.element("map")
    canvas.send_keys(Keys.ARROW_RIGHT)
    assert "at row 2, column 3" in shown.text("value"), "it begins in the middle"
    canvas.send_keys(Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_LEFT)
    assert "at row 0, column 2" in shown.text("value")
    for key, count, place in (
        (Keys.ARROW_RIGHT, 4, "row 0, column 5"),
        (Keys.ARROW_DOWN, 4, "row 3, column 5"),
        (Keys.ARROW_LEFT, 6, "row 3, column 0"),
    ):
        canvas.send_keys(key * count)
        assert f"at {place}" in shown.text("value"), "it stays on the picture"
    canvas.send_keys(Keys.ARROW_UP * 3, Keys.ARROW_RIGHT * 2)
    canvas.send_keys(Keys.ENTER, Keys.ARROW_DOWN)
    assert "attention of the patch at row 0, column 2" in canvas.get_attribute("aria-label")
    bound = float(ATTENTION[2, :, 4].max()) / 510
    assert shown.value("attention") == pytest.approx(float(row_of(4, 2, None).weights[1, 2]), abs=bound, rel=0.006)
    canvas.send_keys(Keys.ESCAPE)
    assert canvas.get_attribute("aria-label") == "relevance for cat"
    assert differences(shown.canvas(), drawn(MAPS[0])).max() <= 1


@needs_browser
def test_a_finger_holds_a_patch(shown: Shown) -> None:
    from selenium.webdriver.common.action_chains import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    finger = PointerInput("touch", "finger")
    actions = ActionBuilder(shown.driver, mouse=finger, duration=0)
    canvas = shown.element("map")
    actions.pointer_action.move_to(
        canvas, round(canvas.size["width"] * (1.5 / 6 - 0.5)), round(canvas.size["height"] * (0.5 / 4 - 0.5))
    )
    actions.pointer_action.pointer_down()
    actions.pointer_action.pointer_up()
    actions.perform()
    shown.wait("state.held !== null")
    assert "attention of the patch at row 0, column 1" in shown.text("shown")
    assert differences(shown.canvas(), drawn(row_of(2 + 1, 2, None)), (0, 1)).max() <= 12


@needs_browser
def test_opacity_and_sharp_patches(shown: Shown) -> None:
    shown.set("alpha", 0)
    assert np.array_equal(shown.canvas(), panel(picture().pixels, least=SMALL.min_size))
    shown.set("alpha", 1)
    shown.element("smooth").click()
    assert differences(shown.canvas(), drawn(MAPS[0], replace(SMALL, alpha=1, interp="nearest"))).max() <= 1


@needs_browser
def test_images_of_other_grids_and_without_attention(shown: Shown) -> None:
    shown.image(1)
    shown.point((1, 1), (2, 2))
    expected = probabilities(1, 1, 4, 4)[0, 0, 3]
    assert shown.value("attention to itself") == pytest.approx(
        float(expected[3]), abs=float(expected.max()) / 510, rel=0.006
    )
    shown.image(2)
    assert not shown.element("attention").is_displayed()
    shown.point((1, 1))
    assert shown.value("raw") == 0.25
    assert shown.text("ticks") == "0.25", "one value everywhere"
    assert (
        len(
            np.unique(
                shown.driver.execute_script("return [...part('bar').getContext('2d').getImageData(0,0,256,1).data]")
            )
        )
        <= 4
    )


@needs_browser
@pytest.mark.parametrize("norm", ["p99", "max", "minmax", "none"])
def test_values_at_the_colours(browser: Any, tmp_path: Path, norm: str) -> None:
    style = replace(SMALL, norm=norm, cmap="viridis", alpha=0.7, interp="nearest")
    write(tmp_path / "page.html", style=style)
    page = Shown(browser, tmp_path / "page.html")
    page.load()
    for method, one in (("relevance", MAPS[0]), ("ig", MAPS[2])):
        page.choose(method)
        scale = scale_of(one.weights, norm, is_signed=one.is_signed)
        ticks = [float(each) for each in page.element("ticks").text.split()]
        assert ticks == pytest.approx(np.linspace(scale.low, scale.high, 5), rel=0.006, abs=1e-9)
        assert page.text("more") == (f"▸ max {scale.most:.3g}" if scale.most > scale.high else "")
        assert differences(page.canvas(), drawn(one, style)).max() <= 1
    page.select(2, "null")
    even = MapPicture(method="raw", weights=np.full(GRID, 0.25, dtype=np.float32))
    assert differences(page.canvas(), drawn(even, style, "plain.png")).max() <= 1


@needs_browser
def test_names_are_shown_and_do_nothing(shown: Shown) -> None:
    parts = """(update({cursor: 0}), ["name", "verdict", "layer-name", "value"].map((id) => part(id).textContent))"""
    for index, name in enumerate(HOSTILE, start=3):
        *texts, value = shown.select(index, parts)
        assert texts == [name, f"✗ predicted {name}, 90.0 % · truth cat", name]
        assert value.startswith(f"{name} for {name}: ")
    assert shown.driver.title == HOSTILE[0]
    assert [
        note.get_property("textContent") for note in shown.driver.find_elements("css selector", "header p")
    ] == HOSTILE
    assert shown.driver.find_elements("css selector", "[onerror], img[src='x']") == []


@needs_browser
def test_nothing_is_wider_than_the_screen(shown: Shown) -> None:
    try:
        for width in (320, 390, 1280):
            metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
            shown.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            for index in (0, len(HOSTILE) + 2):
                page, *size = shown.select(
                    index, "[document.documentElement.scrollWidth, canvas.clientWidth, canvas.clientHeight]"
                )
                assert page <= width
                assert size[0] / size[1] == pytest.approx(6 / 4, rel=0.01), "as the image is"
    finally:
        shown.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@needs_browser
def test_nobody_is_asked(loaded: Shown) -> None:
    """Neither by the page nor, as its policy has it, by anything that found its way into it."""
    shown = loaded
    shown.driver.get_log("performance")
    shown.load()
    sent = [json.loads(entry["message"])["message"] for entry in shown.driver.get_log("performance")]
    asked = [each["params"] for each in sent if each["method"] == "Network.requestWillBeSent"]
    urls = {each["request"]["url"] for each in asked if not each["documentURL"].startswith("chrome:")}  # its own start
    assert any(url.startswith("file:") for url in urls), "the log works"
    assert {url.partition(":")[0] for url in urls} <= {"file", "data", "blob"}
    tried = shown.driver.execute_async_script(
        """const done = arguments[0];
        const script = Object.assign(document.createElement("script"), {textContent: "window.broken = true"});
        document.body.append(script);
        fetch("data:,x").then(() => done("fetched"), () => done(String(window.broken)));"""
    )
    assert tried == "undefined"
    refused = [entry["message"] for entry in shown.driver.get_log("browser")]
    assert len(refused) >= 2
    assert all("Content Security Policy" in message for message in refused)
    shown.driver.get("about:blank")  # no other test has what was tried here


@needs_browser
@needs_axe
def test_the_page_can_be_read_by_everyone(shown: Shown) -> None:
    assert violations(shown.driver) == []
