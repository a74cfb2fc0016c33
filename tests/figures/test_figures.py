from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitcli.core.events import EpochRecord
from vitcli.figures.attention import draw_attention
from vitcli.figures.confusion import draw_confusion
from vitcli.figures.curves import draw_curves


def records(count: int) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=epoch,
            learning_rate=0.01,
            train_loss=2 / epoch,
            train_accuracy=1 - 1 / (epoch + 1),
            val_loss=2.2 / epoch,
            val_accuracy=1 - 1.2 / (epoch + 1),
            seconds=1.0,
            images_per_second=100.0,
            data_share=0.1,
            is_best=epoch <= max(1, count - 1),
        )
        for epoch in range(1, count + 1)
    ]


def opened(path: Path, *, least: int = 400, most: int = 3000) -> Image.Image:
    """The picture, after a look at its size and at whether there is anything on it."""
    image = Image.open(path)
    image.load()
    assert image.format == "PNG"
    assert least <= min(image.size)
    assert max(image.size) <= most
    assert any(low < high for low, high in image.convert("RGB").getextrema())
    return image


@pytest.mark.parametrize("count", [1, 2, 50])
def test_curves_of_any_length(tmp_path: Path, count: int) -> None:
    draw_curves(records(count), tmp_path / "figures" / "curves.png", title="digits-001")
    image = opened(tmp_path / "figures" / "curves.png")
    assert image.width > 2 * image.height


@pytest.mark.parametrize("count", [2, 10, 100])
def test_confusion_of_few_and_many_classes(tmp_path: Path, count: int) -> None:
    confusion = np.eye(count, dtype=int) * 7 + 1
    classes = [f"class {index}" for index in range(count)]
    draw_confusion(confusion.tolist(), classes, tmp_path / "confusion.png", title="run: 90.00 % of 100 test images")
    opened(tmp_path / "confusion.png")


def test_more_classes_get_more_room(tmp_path: Path) -> None:
    for count in (2, 10):
        draw_confusion([[1] * count] * count, ["x"] * count, tmp_path / f"{count}.png", title="")
    assert opened(tmp_path / "10.png").width > opened(tmp_path / "2.png").width


def test_a_class_without_images_has_an_empty_row(tmp_path: Path) -> None:
    draw_confusion([[0, 0], [1, 2]], ["cat", "dog"], tmp_path / "confusion.png", title="")
    opened(tmp_path / "confusion.png")


@pytest.mark.parametrize(
    ("shape", "grid"), [((1, 8, 8), (4, 4)), ((3, 48, 96), (3, 6)), ((3, 224, 224), (14, 14)), ((1, 600, 500), (1, 1))]
)
def test_attention_over_grey_and_colour_images(
    tmp_path: Path, shape: tuple[int, int, int], grid: tuple[int, int]
) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, shape, dtype=np.uint8)
    weights = random.random(grid, dtype=np.float32) / 16
    draw_attention(pixels, weights, tmp_path / "map.png", title="digit.png: 7, 98.2 %", label="share per patch")
    image = opened(tmp_path / "map.png")
    assert image.width > 1.8 * shape[2] / shape[1] * image.height * 0.8


@pytest.mark.parametrize("weight", [0.0, 0.25, -0.5])
def test_attention_that_is_the_same_everywhere(tmp_path: Path, weight: float) -> None:
    pixels = np.zeros((1, 8, 8), dtype=np.uint8)
    weights = np.full((4, 4), weight, dtype=np.float32)
    draw_attention(pixels, weights, tmp_path / "map.png", title="", label="")
    opened(tmp_path / "map.png")


def test_the_weights_decide_on_the_picture(tmp_path: Path) -> None:
    """A weight at the top left and one at the bottom right give different overlays, and the same image beside."""
    pixels = np.full((3, 64, 64), 128, dtype=np.uint8)
    images = []
    for place in ((0, 0), (3, 3)):
        weights = np.zeros((4, 4), dtype=np.float32)
        weights[place] = 1
        draw_attention(pixels, weights, tmp_path / "map.png", title="", label="")
        images.append(np.asarray(opened(tmp_path / "map.png").convert("RGB"), dtype=int))
    middle = images[0].shape[1] // 3
    assert np.array_equal(images[0][:, :middle], images[1][:, :middle])
    assert not np.array_equal(images[0], images[1])


@pytest.mark.parametrize("name", ["$^$", "$5 or $10", "a\\b_{} <b> 50%", ""])
def test_names_are_text_and_no_formulas(tmp_path: Path, name: str) -> None:
    """Class and file names are the user's: matplotlib reads what stands between two dollars as mathematics."""
    draw_confusion([[1, 0], [0, 1]], [name, "dog"], tmp_path / "confusion.png", title=name)
    draw_curves(records(2), tmp_path / "curves.png", title=name)
    draw_attention(
        np.zeros((1, 8, 8), dtype=np.uint8),
        np.ones((2, 2), dtype=np.float32),
        tmp_path / "map.png",
        title=name,
        label="",
    )
    for figure in ("confusion", "curves", "map"):
        opened(tmp_path / f"{figure}.png")
