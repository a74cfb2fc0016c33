"""Figures of ``vit attention-map``: exact pixels, real values, and text that neither leaves the sheet nor overlaps."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vitcli.figures.attention_gif import write_gif
from vitcli.figures.attention_map import draw_map, draw_panels, draw_query
from vitcli.figures.attention_overlay import overlay, panel, shown_whole
from vitcli.figures.attention_sheets import draw_blocks, draw_comparison, draw_heads, draw_sheet
from vitcli.figures.attention_style import MapPicture, Scale, Style, Subject, scale_of
from vitcli.figures.board import RIGHT, WRONG, Board

LONG = "Agelaius phoeniceus, the red-winged blackbird of North and much of Central America, female " * 3
HOSTILE = "$^$ 5_{ \\n <b>\n\t日本 \u202e\u2028 \udc80 \x07"


class Text(NamedTuple):
    text: str
    box: tuple[float, float, float, float]
    colour: str


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Text]:
    """Every text that Pillow draws from now on, and where."""
    texts, real = [], ImageDraw.ImageDraw.text

    def text(draw: ImageDraw.ImageDraw, xy, words, fill, font) -> None:
        texts.append(Text(words, draw.textbbox(xy, words, font=font), fill))
        real(draw, xy, words, fill=fill, font=font)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


@pytest.fixture
def sizes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save pictures without colours, for tests that look at texts and sizes; to pack pixels takes long."""
    real = Board.image
    monkeypatch.setattr(Board, "image", lambda board: Image.new("1", real(board).size))


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def weights(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, dtype=np.float32) / shape[-1] / shape[-2]


def opened(path: Path, *, most: int = 3000) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert max(image.size) <= most
        return np.asarray(image.convert("RGB"))


def size_of(path: Path, *, most: int = 3000) -> tuple[int, int]:
    """Height and width of a picture, which may be large and is not decoded."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert max(image.size) <= most
        return image.height, image.width


def has_colour(sheet: NDArray[np.uint8], colour: Sequence[int]) -> NDArray[np.bool_]:
    """Which pixels have a colour; three comparisons of a channel are much faster than one of all of them."""
    red, green, blue = (sheet[..., channel] == level for channel, level in enumerate(colour))
    return red & green & blue


def holds(sheet: NDArray[np.uint8], part: NDArray[np.uint8]) -> bool:
    """Whether a part is on a sheet, pixel by pixel."""
    height, width = part.shape[:2]
    for top, left in np.argwhere(has_colour(sheet, part[0, 0])):
        if np.array_equal(sheet[top : top + height, left : left + width], part):
            return True
    return False


def assert_tidy(texts: list[Text], size: tuple[int, int]) -> None:
    height, width = size
    for at, (words, box, _) in enumerate(texts):
        assert box[0] >= 0, words
        assert box[1] >= 0, words
        assert box[2] <= width, words
        assert box[3] <= height, words
        for other, second, _ in texts[at + 1 :]:
            apart = (
                min(box[2], second[2]) - max(box[0], second[0]) <= 1
                or min(box[3], second[3]) - max(box[1], second[1]) <= 1
            )
            assert apart, (words, other)


def subject(*shape: int, **changes: object) -> Subject:
    facts = {
        "name": "cat.jpg",
        "pixels": noise(*(shape or (3, 32, 32))),
        "predicted": "cat",
        "probability": 0.982,
        "truth": "cat",
    }
    return Subject(**(facts | changes))


SHAPES = [
    ((1, 8, 8), (4, 4)),
    ((3, 48, 96), (3, 6)),
    ((3, 224, 224), (14, 14)),
    ((3, 16, 512), (1, 32)),
    ((1, 300, 20), (15, 1)),
]


@pytest.mark.parametrize(("shape", "grid"), SHAPES)
@pytest.mark.parametrize("is_signed", [False, True])
def test_a_map_is_on_its_pixels(tmp_path: Path, written: list[Text], shape, grid, *, is_signed: bool) -> None:
    picture = MapPicture(
        method="relevance",
        target="cat",
        weights=weights(*grid) - 0.4 * is_signed / grid[0] / grid[1],
        is_signed=is_signed,
    )
    style = Style()
    draw_map(subject(*shape), picture, tmp_path / "new" / "map.png", style)
    sheet = opened(tmp_path / "new" / "map.png")
    image = panel(subject(*shape).pixels, least=448)
    assert holds(sheet, image)
    assert holds(sheet, overlay(image, picture, style, scale_of(picture.weights, "p99", is_signed=is_signed)))
    assert_tidy(written, sheet.shape[:2])
    assert {"cat.jpg", "relevance for cat"} <= {text.text for text in written}


@pytest.mark.parametrize("norm", ["p99", "max", "minmax", "none"])
def test_the_bar_shows_the_values(tmp_path: Path, written: list[Text], norm: str) -> None:
    values = np.linspace(0.1, 0.5, 36, dtype=np.float32).reshape(6, 6)
    draw_map(subject(), MapPicture(method="raw", weights=values), tmp_path / "map.png", Style(norm=norm))
    ends = {"p99": (0, 0.4960), "max": (0, 0.5), "minmax": (0.1, 0.5), "none": (0, 1)}[norm]
    ticks = [f"{value:.3g}" for value in np.linspace(*ends, 5)]
    texts = [text.text for text in written]
    assert [text for text in texts if text in ticks] == ticks
    assert ("max 0.500" in texts) == (norm == "p99"), "larger values exist where the percentile cuts them off"
    heights = [text.box[1] for text in written if text.text in ticks]
    assert heights == sorted(heights, reverse=True)
    assert np.ptp(np.diff(heights)) <= 5
    colours = opened(tmp_path / "map.png")[:, 24 + 2 * (448 + 20) + 7].astype(int)  # down the middle of the bar
    for at, box in enumerate(text.box for text in written if text.text in ticks):
        expected = Style().colours(is_signed=False)[min(64 * at, 255)].astype(int)
        near = colours[round(box[1]) : round(box[3])]
        assert np.abs(near - expected).sum(-1).min() <= 9


@pytest.mark.parametrize("value", [0.0, 0.0625, -0.5])
def test_one_value_everywhere(tmp_path: Path, written: list[Text], value: float) -> None:
    picture = MapPicture(method="raw", weights=np.full((4, 4), value, dtype=np.float32))
    draw_map(subject(), picture, tmp_path / "map.png", Style())
    assert [text.text for text in written].count(f"{value:.3g}") == 1
    assert not [text for text in written if text.text.startswith(("max", "min"))]


@pytest.mark.parametrize(
    ("least", "most", "words"),
    [
        (0.98, 1.02, "nearly even: 0.980 to 1.020 × the mean"),
        (0.0625, 0.0625, "even: all patches weigh the same"),
        (0, 0, "all weights are 0: there is nothing to see"),
        (0.5, 1, None),
    ],
)
def test_a_nearly_even_map_is_marked_and_can_be_seen(
    tmp_path: Path, written: list[Text], least: float, most: float, words: str | None
) -> None:
    values = np.linspace(least, most, 16, dtype=np.float32).reshape(4, 4)
    grey = subject(pixels=np.full((3, 32, 32), 128, dtype=np.uint8))
    draw_map(grey, MapPicture(method="raw", weights=values), tmp_path / "map.png", Style(interp="nearest"))
    texts = [text.text for text in written]
    assert [text for text in texts if "even" in text or "nothing" in text] == ([words] if words else [])
    assert ("colours from minimum to maximum" in texts) == (least == 0.98 or least == most == 0.0625)
    sheet = opened(tmp_path / "map.png")
    if least != most:
        assert np.ptp(sheet[140:560, 24 + 448 + 40 : 24 + 2 * 448].astype(int).sum(-1)) > 150
    written.clear()
    pictures = [MapPicture(method=name, weights=values) for name in ("raw", "rollout")]
    draw_comparison(grey, pictures, tmp_path / "all.png", Style())
    hint = words.partition(":")[0] if words else ""
    titles = [text.text for text in written if text.text.startswith(("raw", "rollout"))]
    assert titles == ([f"raw ({hint})", f"rollout ({hint})"] if words else ["raw", "rollout"])
    assert_tidy([text for text in written if text.text], size_of(tmp_path / "all.png"))
    written.clear()
    pictures = [replace(picture, target=target) for picture in pictures for target in ("cat", "dog")]
    draw_comparison(grey, pictures, tmp_path / "all.png", Style(interp="nearest"))
    marks = [text for text in written if text.text == hint and hint]
    assert len(marks) == (4 if words else 0)
    sheet = opened(tmp_path / "all.png")
    assert_tidy([text for text in written if text.text], sheet.shape[:2])
    for mark in marks:
        left, bottom = round(mark.box[0]), round(mark.box[3])
        assert (sheet[bottom + 2 : bottom + 12, left + 9] != 255).any(), "directly above its own map"
        assert (sheet[round(mark.box[1]) - 9 : round(mark.box[1]) - 2, left + 9] == 255).all(), "not below another one"


def test_values_of_a_narrow_scale_can_be_told_apart() -> None:
    values = Scale(low=0.0051, high=0.005101, least=0.0051, most=0.005101).values(5)
    assert len(set(values)) == 5
    assert values[0] == "0.0051"


@pytest.mark.parametrize(
    ("end", "value", "text"),
    [(0.00236, 0.0024, "0.00240"), (0.87, 0.962, "0.962"), (1, 1.25, "1.25"), (5e-7, 6e-7, "6e-7"), (0.36, 2, "2.00")],
)
def test_an_extreme_value_has_the_decimals_of_the_end(end: float, value: float, text: str) -> None:
    assert Scale(low=-end, high=end, least=-value, most=value).extreme(value) == text
    assert Scale(low=-end, high=end, least=-value, most=value).extreme(-value) == f"-{text}"


def test_a_signed_map_keeps_0_in_the_middle_although_it_is_nearly_even() -> None:
    values = np.linspace(0.99, 1, 4, dtype=np.float32)
    assert scale_of(values, "max", is_signed=True).low == -1
    assert scale_of(values, "p99", is_signed=True).low < -0.99


@pytest.mark.parametrize("ending", ["svg", "pdf"])
def test_vectors_have_text_and_the_pixels_of_each_panel(tmp_path: Path, ending: str) -> None:
    picture = MapPicture(method="raw", weights=weights(4, 4))
    for name in ("one", "two"):
        draw_map(subject(), picture, tmp_path / f"{name}.{ending}", Style(dpi=300))
    content = (tmp_path / f"one.{ending}").read_bytes()
    assert content == (tmp_path / f"two.{ending}").read_bytes()
    path = tmp_path / f"heads.{ending}"
    draw_heads(subject(1, 8, 8), weights(1, 2, 4, 4), path, Style(), layers=["layer 0"], heads=["head 0", HOSTILE])
    assert path.stat().st_size > 10_000
    if ending == "pdf":
        assert content.count(b"/Subtype /Image") == 3, "both panels and the bar"
        assert b"/FontFile2" in content
        assert b"CreationDate" not in content
        return
    tree = ET.fromstring(content)
    space = "{http://www.w3.org/2000/svg}"
    texts = ["".join(each.itertext()) for each in tree.iter(f"{space}text")]
    assert {"cat.jpg", "✓ predicted cat, 98.2 % · truth cat", "what the model saw"} <= set(texts)
    found = []
    for each in tree.iter(f"{space}image"):
        packed = each.get("{http://www.w3.org/1999/xlink}href", "").partition("base64,")[2]
        with Image.open(io.BytesIO(base64.b64decode(packed))) as image:
            found.append(np.asarray(image.convert("RGB")))
    image = panel(subject().pixels, least=448, density=2)
    assert image.shape == (896, 896, 3)
    assert any(each.shape == image.shape and np.array_equal(each, image) for each in found)
    assert b"date" not in content.lower()


def test_neighbours_stay_apart_in_vectors(tmp_path: Path) -> None:
    """matplotlib would make one image of them, with pixels of its own."""
    board = Board(100, 40)
    for left in (0, 50):
        board.paste(np.full((40, 50, 3), left, dtype=np.uint8), left, 0)
    board.save(tmp_path / "board.svg")
    assert (tmp_path / "board.svg").read_text().count("<image") == 2


def test_more_dots_per_inch_give_a_sharper_picture_of_the_same_size(tmp_path: Path) -> None:
    sizes = {}
    for dpi in (75, 150, 300):
        draw_map(subject(), MapPicture(method="raw", weights=weights(4, 4)), tmp_path / "map.png", Style(dpi=dpi))
        with Image.open(tmp_path / "map.png") as image:
            assert image.info["dpi"] == pytest.approx((dpi, dpi), abs=0.1)
            sizes[dpi] = np.array(image.size) / dpi
    assert sizes[75] == pytest.approx(sizes[300], abs=0.25)
    assert sizes[150] == pytest.approx(sizes[300], abs=0.25)


@pytest.mark.parametrize("size", [8, 20, 40])
def test_the_bar_is_beside_its_map_and_not_much_higher_whatever_the_size_of_text(tmp_path: Path, size: float) -> None:
    grey = subject(pixels=np.full((3, 8, 8), 128, dtype=np.uint8))
    picture, style = MapPicture(method="raw", weights=weights(4, 4)), Style(font_size=size, norm="max")
    draws: list[Callable[[Path], None]] = [
        lambda path: draw_map(grey, picture, path, style),
        lambda path: draw_comparison(grey, [picture], path, style),
    ]
    for draw in draws:
        draw(tmp_path / "figure.png")
        sheet = opened(tmp_path / "figure.png", most=6000)
        inked = ~has_colour(sheet, (255, 255, 255))
        is_grey = has_colour(sheet, (128, 128, 128))  # the image beside the map
        rows, columns = (np.flatnonzero(is_grey.any(axis)) for axis in (1, 0))
        side = np.ptp(rows) + 1
        middle = inked[rows[0] + side // 2]
        starts = np.flatnonzero(middle[columns[-1] + 1 :]) + columns[-1] + 1
        left = starts[0]  # of the map
        gap = np.flatnonzero(middle[left + side :])[0]
        assert gap <= 20, "from the map to its bar"
        bar, at = inked[:, left + side + gap], rows[0] + side // 2
        assert np.flatnonzero(~bar[at:])[0] + np.flatnonzero(~bar[at::-1])[0] - 1 <= side


@pytest.mark.usefixtures("sizes_only")
@pytest.mark.parametrize("size", [4, 20, 40])
def test_text_of_any_size_is_tidy(tmp_path: Path, written: list[Text], size: float) -> None:
    style, picture = Style(font_size=size), MapPicture(method="raw", weights=weights(4, 4))
    names = [f"layer {at}" for at in range(12)]
    draws: list[Callable[[Path], None]] = [
        lambda path: draw_map(subject(), picture, path, style),
        lambda path: draw_comparison(subject(), [picture, replace(picture, target="a")], path, style),
        lambda path: draw_heads(subject(), weights(12, 3, 4, 4), path, style, layers=names, heads=list("abc")),
        lambda path: draw_blocks(subject(), weights(12, 2, 2), path, style, layers=names),
        lambda path: draw_sheet([subject()] * 3, [picture] * 3, path, style, title="raw"),
    ]
    for draw in draws:
        written.clear()
        draw(tmp_path / "figure.png")
        assert_tidy([text for text in written if text.text], size_of(tmp_path / "figure.png", most=9000))


@pytest.mark.parametrize(
    ("predicted", "truth", "words", "colour"),
    [
        ("cat", "cat", "✓ predicted cat, 98.2 % · truth cat", RIGHT),
        ("dog", "cat", "✗ predicted dog, 98.2 % · truth cat", WRONG),
        ("cat", None, "predicted cat, 98.2 %", None),
        ("", "cat", "truth cat", None),
        ("", None, None, None),
    ],
)
def test_the_title_judges(tmp_path: Path, written: list[Text], predicted, truth, words, colour) -> None:
    who = subject(predicted=predicted, truth=truth)
    draw_map(who, MapPicture(method="raw", weights=weights(4, 4)), tmp_path / "map.png", Style())
    assert written[0].text == "cat.jpg"
    if words:
        assert written[1].text == words
    assert {text.colour for text in written} & {RIGHT, WRONG} == ({colour} if colour else set())


def test_the_whole_picture(tmp_path: Path) -> None:
    whole = noise(3, 300, 500)
    who = subject(pixels=whole[:, 50:250, 100:300], whole=whole, box=(100, 50, 300, 250))
    picture, style = MapPicture(method="raw", weights=weights(4, 4)), Style()
    draw_map(who, picture, tmp_path / "map.png", style, full=True)
    sheet = opened(tmp_path / "map.png")
    image, box = shown_whole(who, least=448)
    drawn = overlay(image, picture, style, scale_of(picture.weights, "p99", is_signed=False), box=box)
    left, top, right, bottom = (round(at) for at in box)
    inside = np.s_[top + 4 : bottom - 4, left + 4 : right - 4]
    assert holds(sheet, image[inside])
    assert holds(sheet, drawn[inside])
    assert holds(sheet, image[: top - 4])
    assert (np.abs(np.diff(has_colour(sheet, (255, 255, 255)).astype(int), axis=1)).sum(1) > 4).any(), (
        "the box is framed"
    )


def test_a_query_is_framed_on_both_panels(tmp_path: Path, written: list[Text]) -> None:
    draw_query(subject(), (1, 2), MapPicture(method="block 3", weights=weights(4, 4)), tmp_path / "map.png", Style())
    sheet = opened(tmp_path / "map.png")
    frame = has_colour(sheet, (0, 229, 255))
    y, x = np.nonzero(frame)
    panels = x < x.mean()
    for side in (panels, ~panels):
        assert np.ptp(x[side]) == pytest.approx(448 / 4, abs=4)
        assert np.ptp(y[side]) == pytest.approx(448 / 4, abs=4)
    assert x[~panels].min() - x[panels].min() == 448 + 20
    assert x[panels].min() == pytest.approx(24 + 2 * 112, abs=3)
    assert y.min() == pytest.approx(24 + 32 + 26 + 8 + 23 + 112, abs=3)
    assert "block 3: patch at row 1, column 2" in [text.text for text in written]


@pytest.mark.parametrize(("shape", "grid"), SHAPES)
@pytest.mark.parametrize(("methods", "classes"), [(1, 1), (10, 4), (3, 0)])
def test_comparisons_few_and_many(
    request: pytest.FixtureRequest, tmp_path: Path, written: list[Text], shape, grid, methods: int, classes: int
) -> None:
    is_looked_at = grid == (4, 4) and methods < 10
    if not is_looked_at:
        request.getfixturevalue("sizes_only")
    targets = [f"class {at}" if at else LONG for at in range(classes)] or [""]
    pictures = [
        MapPicture(
            method=f"method {row}", target=target, weights=weights(*grid, seed=10 * row + column), is_signed=row == 2
        )
        for row in range(methods)
        for column, target in enumerate(targets if row != 1 else [""])
    ]
    draw_comparison(subject(*shape), pictures, tmp_path / "all.png", Style())
    assert_tidy(written, size_of(tmp_path / "all.png"))
    texts = [text.text for text in written]
    assert [text for text in texts if text.startswith("method ")] == [f"method {row}" for row in range(methods)]
    assert texts.count("the same for every class") == (classes - 1 if methods > 1 and classes else 0)
    if is_looked_at:
        sheet = opened(tmp_path / "all.png")
        enlarged = [panel(noise(*shape), least=8 * factor, most=8 * factor) for factor in range(37, 20, -1)]
        image = next(each for each in enlarged if holds(sheet, each))
        for picture in pictures:
            scale = scale_of(picture.weights, "p99", is_signed=picture.is_signed)
            assert holds(sheet, overlay(image, picture, Style(), scale))


@pytest.mark.usefixtures("sizes_only")
@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (4, 3), (12, 3), (12, 12), (2, 16)])
def test_heads_of_every_layer(tmp_path: Path, written: list[Text], layers: int, heads: int) -> None:
    values = weights(layers, heads, 4, 4)
    values[0, 0] *= 100
    draw_heads(
        subject(1, 8, 8),
        values,
        tmp_path / "heads.png",
        Style(norm="max"),
        layers=[f"block {at}" for at in range(layers)],
        heads=[f"head {at}" for at in range(heads)],
    )
    height, width = size_of(tmp_path / "heads.png")
    assert_tidy(written, (height, width))
    texts = [text.text for text in written]
    assert {f"{one.max():.3g}" for one in values.reshape(-1, 4, 4)} <= set(texts)
    assert {"low", "high"} <= set(texts)
    if (layers, heads) == (12, 3):
        assert width > 2 * height, "the layers are columns, so that the sheet fits on a screen"
        assert min(text.box[3] - text.box[1] for text in written if text.text[0].isdigit()) >= 9


@pytest.mark.usefixtures("sizes_only")
@pytest.mark.parametrize("layers", [1, 12])
@pytest.mark.parametrize(("shape", "grid"), SHAPES[:4])
def test_blocks(tmp_path: Path, written: list[Text], layers: int, shape, grid) -> None:
    names = [f"block {at}" for at in range(layers)]
    draw_blocks(subject(*shape), weights(layers, *grid), tmp_path / "blocks.png", Style(), layers=names)
    assert_tidy(written, size_of(tmp_path / "blocks.png"))
    assert [text.text for text in written if text.text.startswith(("input", "block"))] == ["input", *names]


@pytest.mark.parametrize("count", [1, 4, 30])
def test_a_sheet_of_images(tmp_path: Path, written: list[Text], count: int) -> None:
    subjects = [subject(1, 8 + at % 2, 8, predicted=str(at % 3), truth="0") for at in range(count)]
    pictures = [MapPicture(method="raw", weights=weights(2, 2, seed=at)) for at in range(count)]
    draw_sheet(subjects, pictures, tmp_path / "sheet.png", Style(), title=LONG)
    sheet = opened(tmp_path / "sheet.png")
    assert_tidy(written, sheet.shape[:2])
    right = -(-count // 3)
    assert f"{right} of {count} predictions are right" in [text.text for text in written]
    assert [text.colour for text in written if text.text.startswith("✓")] == [RIGHT] * right
    assert [text.colour for text in written if text.text.startswith("✗")] == [WRONG] * (count - right)
    for who, picture in zip(subjects[:4], pictures[:4], strict=False):
        image = panel(who.pixels, least=160, most=160)
        assert holds(sheet, overlay(image, picture, Style(), scale_of(picture.weights, "p99", is_signed=False)))


def test_long_names_of_classes_stay_apart_beside_each_other(tmp_path: Path, written: list[Text]) -> None:
    kind = "Animalia Arthropoda Insecta Lepidoptera Nymphalidae Vanessa"
    names = [f"{kind} atalanta", f"{kind} cardui", f"{kind} virginiensis"]
    subjects = [
        subject(1, 8, 8, predicted=one, truth=other, probability=0.987) for one, other in permutations(names, 2)
    ]
    pictures = [MapPicture(method="raw", weights=weights(2, 2, seed=at)) for at in range(len(subjects))]
    draw_sheet(subjects, pictures, tmp_path / "sheet.png", Style(), title="")
    said = [text.text for text in written if text.text.startswith(("✗", "truth"))]
    assert len(said) == 12
    assert len({*said}) == 6
    assert all(text.endswith("98.7 %") for text in said if text.startswith("✗"))


def test_the_colours_of_signed_maps_are_described(tmp_path: Path, written: list[Text]) -> None:
    signed = MapPicture(method="ig", weights=weights(2, 2) - 0.3, is_signed=True)
    draw_map(subject(1, 8, 8), signed, tmp_path / "map.png", Style(norm="minmax"))
    assert "of signed maps to the same distance on both sides of 0" in " ".join(text.text for text in written)


def test_captions_are_wrapped_between_words(tmp_path: Path, written: list[Text]) -> None:
    values = np.linspace(0.98, 1.02, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    draw_heads(subject(1, 8, 8), values, tmp_path / "heads.png", Style(), layers=["layer 0"], heads=["head 0"])
    text = " ".join(each.text for each in written)
    assert "…" not in text
    assert "bold if it is nearly even · colours from minimum to maximum" in text
    written.clear()
    wrong = subject(predicted="dog", truth="cat")
    title = "surest mistakes of digits-vit-nano-patch2-001 on the 359 images of the test split"
    draw_sheet([wrong], [MapPicture(method="raw", weights=weights(2, 2))], tmp_path / "wrong.png", Style(), title=title)
    text = " ".join(each.text for each in written)
    assert title in text
    assert "0 of 1 predictions are right" in text
    written.clear()
    draw_sheet(
        [wrong], [MapPicture(method="raw", weights=weights(2, 2))], tmp_path / "wrong.png", Style(), counts_right=False
    )
    assert not [each.text for each in written if "predictions" in each.text]


def frames_of(path: Path) -> tuple[list[NDArray[np.uint8]], list[int], int]:
    with Image.open(path) as image:
        frames, durations = [], []
        for at in range(image.n_frames):
            image.seek(at)
            frames.append(np.asarray(image.convert("RGB")).astype(int))
            durations.append(image.info["duration"])
        return frames, durations, image.info["loop"]


def test_an_animation_through_the_layers(tmp_path: Path, written: list[Text]) -> None:
    maps = np.zeros((3, 2, 2), dtype=np.float32)
    maps[0, 0, 0], maps[1, 1, 1], maps[2, 0, 1] = 0.25, 0.5, 1
    names = ["block 0", "block 1", "block 2"]
    who = subject(pixels=np.full((3, 32, 32), 60, dtype=np.uint8))
    draw_map(who, MapPicture(method="raw", weights=maps[2]), tmp_path / "map.png", Style(norm="max", interp="nearest"))
    still = opened(tmp_path / "map.png").astype(int)
    written.clear()
    write_gif(who, maps, tmp_path / "a.gif", Style(norm="max", interp="nearest"), layers=names, method="raw")
    frames, durations, loop = frames_of(tmp_path / "a.gif")
    assert durations == [500, 500, 1500]
    assert loop == 0
    assert [text.text for text in written if text.text.startswith("raw")] == [f"raw: {name}" for name in names]
    top = 24 + 32 + 27 + 8 + 24  # margin, name, verdict, gap, caption
    left = 24 + 448 + 20
    patches = [frame[top : top + 448, left : left + 448].reshape(2, 224, 2, 224, 3).mean((1, 3)) for frame in frames]
    grey = np.abs(frames[0][top + 224, 24 + 224] - 60).max()
    assert grey < 12
    expected = still[top : top + 448, left : left + 448].reshape(2, 224, 2, 224, 3).mean((1, 3))
    assert np.abs(patches[2] - expected).max() < 12, "the last frame is the last map"
    one, half, quarter = patches[2][0, 1], patches[1][1, 1], patches[0][0, 0]
    assert one.sum() > half.sum() > quarter.sum() + 20, "one scale for all: a quarter of the value is darker"
    assert all(np.array_equal(frame[:, : 24 + 448], frames[0][:, : 24 + 448]) for frame in frames), (
        "the image stands still"
    )


def test_all_frames_of_an_animation_have_one_size() -> None:
    """The caption of the layer with the longest name may need one line more than the others."""
    maps = [at * np.eye(2, dtype=np.float32) for at in (1, 2)]
    heights = set()
    for letters in range(40, 60):
        pictures = [
            MapPicture(method=f"{'x ' * (letters // 2)}{'x' * (letters % 2)}: layer {layer}", weights=weights)
            for layer, weights in zip((9, 10), maps, strict=True)
        ]
        alone = {draw_panels(subject(), each, Style()).height for each in pictures}
        together = {draw_panels(subject(), each, Style(), among=pictures).height for each in pictures}
        assert together == {max(alone)}
        heights.add(len(alone))
    assert heights == {1, 2}, "some captions differ in their lines"


@pytest.mark.parametrize("count", [1, 4])
def test_an_animation_of_equal_maps(tmp_path: Path, count: int) -> None:
    write_gif(
        subject(),
        np.ones((count, 2, 2), dtype=np.float32),
        tmp_path / "a.gif",
        Style(),
        layers=[str(at) for at in range(count)],
    )
    assert len(frames_of(tmp_path / "a.gif")[0]) == count


@pytest.mark.usefixtures("sizes_only")
@pytest.mark.parametrize("name", [LONG, HOSTILE, ""])
def test_names_are_text(tmp_path: Path, written: list[Text], name: str) -> None:
    who = subject(name=name, predicted=name or "x", truth=name)
    picture = MapPicture(method="raw", target=name, weights=weights(2, 2))
    draws: list[Callable[[Path], None]] = [
        lambda path: draw_map(who, picture, path, Style()),
        lambda path: draw_comparison(who, [picture], path, Style()),
        lambda path: draw_heads(who, weights(2, 2, 2, 2), path, Style(), layers=[name, "1"], heads=[name, "1"]),
        lambda path: draw_blocks(who, weights(2, 2, 2), path, Style(), layers=[name, "1"]),
        lambda path: draw_sheet([who], [picture], path, Style(), title=name),
    ]
    for draw in draws:
        written.clear()
        draw(tmp_path / "figure.png")
        assert_tidy([text for text in written if text.text], size_of(tmp_path / "figure.png"))


def test_nothing_is_written_where_the_map_is_none(tmp_path: Path) -> None:
    values = weights(2, 2)
    values[0, 0] = np.nan
    with pytest.raises(AssertionError, match="NaN"):
        draw_map(subject(), MapPicture(method="raw", weights=values), tmp_path / "map.png", Style())
    assert list(tmp_path.iterdir()) == []
