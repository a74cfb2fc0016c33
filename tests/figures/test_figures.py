from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitcli.core.events import EpochRecord
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


@pytest.mark.parametrize("name", ["$^$", "$5 or $10", "a\\b_{} <b> 50%", ""])
def test_names_are_text_and_no_formulas(tmp_path: Path, name: str) -> None:
    """Class and file names are the user's: matplotlib reads what stands between two dollars as mathematics."""
    draw_confusion([[1, 0], [0, 1]], [name, "dog"], tmp_path / "confusion.png", title=name)
    draw_curves(records(2), tmp_path / "curves.png", title=name)
    for figure in ("confusion", "curves"):
        opened(tmp_path / f"{figure}.png")
