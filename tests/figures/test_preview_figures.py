"""Figures of ``vit preview``: any shape and number of images and classes, names of any length."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from vitcli.figures import augmentations, classes, samples
from vitcli.figures.augmentations import draw_augmentations
from vitcli.figures.canvas import fitted
from vitcli.figures.classes import draw_classes
from vitcli.figures.samples import draw_samples

LONG = "Agelaius phoeniceus, the red-winged blackbird of North and much of Central America, female " * 3
NAMES = ("7", "cat", LONG, "x" * 300, "$^$ 5_{", "Ωmega ñandú", "")


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def size_of(path: Path, *, least: int = 250, most: int = 3000) -> tuple[int, int]:
    image = Image.open(path)
    image.load()
    assert image.format == "PNG"
    assert least <= min(image.size)
    assert max(image.size) <= most
    assert len(image.convert("L").getcolors()) > 2
    return image.size


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is drawn from now on."""
    figures = []
    for module in (samples, augmentations, classes):
        real = module.new_figure
        monkeypatch.setattr(
            module, "new_figure", lambda *size, real=real: figures.append(real(*size)) or figures[-1], raising=True
        )
    return figures


def texts(figure: Figure) -> list[tuple[str, NDArray[np.float64]]]:
    """What is written, and where: (x0, y0, x1, y1) in pixels; of a figure that was saved, and so has its layout."""
    renderer = figure.canvas.get_renderer()
    words = [text for axes in figure.axes for text in (axes.title, *axes.texts)]
    words += [label for axes in figure.axes if axes.axison for label in axes.get_yticklabels()]
    words += figure.texts
    return [
        (text.get_text(), text.get_window_extent(renderer).extents)
        for text in words
        if text.get_text() and text.get_visible()
    ]


def shown_aspects(figure: Figure) -> list[float]:
    """Width over height of every image as drawn."""
    extents = [axes.images[0].get_window_extent() for axes in figure.axes if axes.images]
    return [box.width / box.height for box in extents]


def overlapping(boxes: Sequence[tuple[str, NDArray[np.float64]]]) -> list[tuple[str, str]]:
    return [
        (one, other)
        for at, (one, a) in enumerate(boxes)
        for other, b in boxes[at + 1 :]
        if min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1
    ]


@pytest.mark.parametrize(
    ("count", "shape"), [(1, (3, 150, 200)), (2, (3, 90, 30)), (12, (1, 8, 8)), (12, (3, 75, 100))]
)
def test_samples_keep_their_shape_and_their_names_apart(
    tmp_path: Path, drawn: list[Figure], count: int, shape: tuple[int, int, int]
) -> None:
    names = [NAMES[at % len(NAMES)] for at in range(count)]
    draw_samples([noise(*shape)] * count, names, tmp_path / "samples.png", title=LONG, columns=5)
    width, height = size_of(tmp_path / "samples.png")
    assert shown_aspects(drawn[0]) == pytest.approx([shape[2] / shape[1]] * count, rel=0.02)
    placed = texts(drawn[0])
    assert overlapping(placed) == []
    assert all(box[0] >= -1 and box[2] <= drawn[0].bbox.width + 1 for _, box in placed)
    assert width > 600
    assert height > 300


def test_samples_of_many_shapes(tmp_path: Path, drawn: list[Figure]) -> None:
    shapes = [(20, 400), (400, 20), (64, 64), (300, 200), (200, 300)]
    images = [noise(3, *shape) for shape in shapes]
    draw_samples(images, ["some class"] * 5, tmp_path / "samples.png", title="", columns=3)
    size_of(tmp_path / "samples.png")
    assert shown_aspects(drawn[0]) == pytest.approx([width / height for height, width in shapes], rel=0.05)


def test_samples_show_the_pixels_that_they_get(drawn: list[Figure], tmp_path: Path) -> None:
    images = [noise(1, 8, 8, seed=1), noise(1, 8, 8, seed=2)]
    draw_samples(images, ["a", "b"], tmp_path / "samples.png", title="t", columns=2)
    shown = [axes.images[0].get_array() for axes in drawn[0].axes]
    assert all(np.array_equal(one, other[0]) for one, other in zip(shown, images, strict=True))
    assert all(axes.images[0].get_clim() == (0, 255) for axes in drawn[0].axes)


@pytest.mark.parametrize(
    ("rows", "stored", "seen"),
    [
        (1, (1, 8, 8), (1, 8, 8)),
        (4, (3, 96, 128), (3, 96, 96)),
        (1, (1, 28, 28), (1, 14, 56)),
        (2, (1, 28, 28), (1, 14, 56)),
    ],
)
def test_augmentations_keep_their_shape_and_their_names_apart(
    tmp_path: Path, drawn: list[Figure], rows: int, stored: tuple[int, ...], seen: tuple[int, ...]
) -> None:
    names = [LONG, "x" * 300, "7", "$"][:rows]
    draw_augmentations(
        list(noise(rows, *stored)),
        noise(rows, 7, *seen),
        names,
        tmp_path / "augmentations.png",
        title="digits: kept at 8 x 8",
        notes=["on: " + ", ".join(["crop_scale 0.5"] * 30), "not drawn: mixup 0.2"],
    )
    size_of(tmp_path / "augmentations.png", least=200)
    expected = [stored[2] / stored[1], *[seen[2] / seen[1]] * 7] * rows
    assert shown_aspects(drawn[0]) == pytest.approx(expected, rel=0.03)
    placed = texts(drawn[0])
    assert overlapping(placed) == []
    assert all(box[0] >= -1 and box[2] <= drawn[0].bbox.width + 1 for _, box in placed)


def test_long_names_stay_apart(tmp_path: Path, drawn: list[Figure]) -> None:
    kind = "Animalia Arthropoda Insecta Lepidoptera Nymphalidae Vanessa"
    names = [f"{kind} atalanta", f"{kind} cardui", f"{kind} cardui", "Plantae"]
    images = [np.zeros((3, 8, 8), dtype=np.uint8)] * 4
    draw_classes([("train", [4, 3, 2, 1])], names[:2] + names[3:] + ["x"], tmp_path / "classes.png", title="")
    draw_samples(images, names, tmp_path / "samples.png", title="", columns=4)
    draw_augmentations(images, np.zeros((4, 2, 3, 8, 8), dtype=np.uint8), names, tmp_path / "a.png", title="", notes=[])
    for figure in drawn:
        said = {" ".join(text.split()) for text, _ in texts(figure) if "…" in text}
        assert len(said) == 2, said


@pytest.mark.parametrize(("count", "splits"), [(2, 3), (40, 1), (41, 1)])
def test_classes_few_and_many(tmp_path: Path, drawn: list[Figure], count: int, splits: int) -> None:
    random = np.random.default_rng(count)
    counts = [(name, random.integers(0, 5000, count).tolist()) for name in ("train", "val", "test")[:splits]]
    names = [f"{NAMES[at % len(NAMES)]} {at}" for at in range(count)]
    draw_classes(counts, names, tmp_path / "classes.png", title=LONG)
    size_of(tmp_path / "classes.png")
    assert overlapping(texts(drawn[0])) == []
    labels = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert len(labels) == min(count, 41)
    assert (f"… {count - 40:,} more …" in labels) == (count > 40)


def test_classes_are_sorted_by_the_first_split_with_count_and_share(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_classes(
        [("train", [1, 6, 3]), ("val", [2, 0, 0])], ["ant", "bee", "cow"], tmp_path / "classes.png", title="insects"
    )
    train, val = drawn[0].axes
    assert [label.get_text() for label in train.get_yticklabels()] == ["bee", "cow", "ant"]
    assert [text.get_text() for text in train.texts] == ["6  60.0 %", "3  30.0 %", "1  10.0 %"]
    assert [text.get_text() for text in val.texts] == ["0  0.0 %", "0  0.0 %", "2  100.0 %"]
    assert train.get_title() == "train: 10 images"
    low, high = train.get_ylim()
    assert low > high, "the most frequent is at the top"


def test_the_mean_does_not_run_through_the_numbers(tmp_path: Path, drawn: list[Figure]) -> None:
    draw_classes([("train", [100, 97, 95, 60, 3])], list("abcde"), tmp_path / "classes.png", title="letters")
    (axes,) = drawn[0].axes
    mean = axes.transData.transform((71, 0))[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 5
    assert not any(box.x0 - 2 <= mean <= box.x1 + 2 for box in boxes)


def test_a_split_without_images_is_empty(tmp_path: Path) -> None:
    draw_classes([("train", [0, 0])], ["ant", "bee"], tmp_path / "classes.png", title="")
    size_of(tmp_path / "classes.png")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one two", "one two"),
        ("one two three", "one two\nthree"),
        ("one two three four", "one two\nthree…"),
        ("x" * 20, "x" * 8 + "\n" + "x" * 7 + "…"),
        ("$5  or\n$67", "\\$5 or\n\\$67"),
        ("", ""),
    ],
)
def test_fitted_text_is_as_long_as_it_may_be(text: str, expected: str) -> None:
    assert fitted(text, 8, lines=2) == expected
