from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from PIL import Image

from vitcli.core.events import EpochRecord
from vitcli.figures import confusion, curves, rates
from vitcli.figures.canvas import new_figure, save_figure
from vitcli.figures.confusion import draw_confusion
from vitcli.figures.curves import draw_compared_curves, draw_curves
from vitcli.figures.rates import draw_rates


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


def test_a_single_epoch_has_one_tick_and_its_point_is_seen_inside_the_star(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, path: drawn.append(figure))
    draw_curves(records(1), tmp_path / "curves.png", title="digits-001")
    drawn[0].canvas.draw()
    low, high = drawn[0].axes[1].get_xlim()
    assert [at for at in drawn[0].axes[1].get_xticks() if low <= at <= high] == [1]
    star = drawn[0].axes[1].get_lines()[-1]
    assert star.get_markerfacecolor() == "none"
    assert star.get_markersize() > 2 * drawn[0].axes[1].get_lines()[1].get_markersize()


@pytest.mark.parametrize(
    ("averaged_from", "keeps_average", "expected"),
    [
        pytest.param(1, True, ["unaveraged"], id="a moving average is what is validated"),
        pytest.param(4, False, ["averaged"], id="the mean of the last epochs may lose"),
        pytest.param(9, True, [], id="nothing beside"),
    ],
)
def test_curves_show_what_is_judged_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaged_from: int, *, keeps_average: bool, expected: list[str]
) -> None:
    def judged(record: EpochRecord) -> EpochRecord:
        kept, other = ("average", "plain") if keeps_average else ("plain", "average")
        figures = {f"{kept}_val_loss": record.val_loss, f"{kept}_val_accuracy": record.val_accuracy}
        figures |= {f"{other}_val_loss": record.val_loss + 0.1, f"{other}_val_accuracy": record.val_accuracy / 2}
        return replace(record, **figures) if record.epoch >= averaged_from else record

    labels: list[list[str]] = []

    def look(figure: Any, path: Path) -> None:
        labels.extend(figure.axes[panel].get_legend_handles_labels()[1] for panel in (0, 1))
        save_figure(figure, path)

    monkeypatch.setattr(curves, "save_figure", look)
    draw_curves([judged(record) for record in records(5)], tmp_path / "curves.png", title="digits-001")
    opened(tmp_path / "curves.png")
    for panel in labels:
        assert [label for label in panel if "weights" in label] == [f"validation, {name} weights" for name in expected]


def sparse(matrix: ArrayLike) -> list[tuple[int, int, int]]:
    """A matrix without its zeros."""
    counts = np.array(matrix)
    return [(int(row), int(column), int(counts[row, column])) for row, column in np.argwhere(counts)]


def test_every_run_is_in_the_legend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Matplotlib leaves out labels that begin with "_"."""
    drawn: list[Figure] = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, _path: drawn.append(figure))
    draw_compared_curves({"_first": [records(3)], "second": [records(3)]}, tmp_path / "curves.png")
    (legend,) = drawn[0].legends
    assert [text.get_text().strip() for text in legend.get_texts()] == ["_first", "second"]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The confusion matrices that are drawn."""
    figures: list[Figure] = []

    def keep(*size: float, **options: Any) -> Figure:
        figures.append(new_figure(*size, **options))
        return figures[-1]

    monkeypatch.setattr(confusion, "new_figure", keep)
    return figures


CASSAVA = (
    "Bacterial Blight (CBB)",
    "Brown Streak Disease (CBSD)",
    "Green Mottle (CGM)",
    "Mosaic Disease (CMD)",
    "Healthy",
)
NAMES = {
    "cassava": [f"Cassava {name}" for name in CASSAVA],
    "endless": ["x" * 80, "y" * 80],
    "alike": ["x" * 80 + str(index) + "y" * 80 for index in range(12)],
    "dozens": [f"Agelaius phoeniceus of subspecies {index}, female" for index in range(60)],
    "thousands": [f"class {index}" for index in range(1001)],
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_names_of_any_length_leave_room_for_the_matrix(tmp_path: Path, names: list[str], figures: list[Figure]) -> None:
    counts = np.ones([len(names)] * 2) if len(names) <= 25 else np.eye(len(names))
    draw_confusion(sparse(counts), names, tmp_path / "confusion.png", title="run: 90 % " * 30)
    opened(tmp_path / "confusion.png")
    axes, bar = figures[0].axes
    matrix, whole = axes.get_window_extent(), figures[0].bbox
    assert matrix.width == pytest.approx(matrix.height)
    assert max(axes.images[0].get_array().shape) == (len(names) if len(names) <= 500 else 334)
    assert matrix.width > max(0.4 * whole.width, 3 * figures[0].dpi)
    for part in (axes, bar, *figures[0].texts):
        box = part.get_tightbbox()
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= whole.x1 + 1 and box.y1 <= whole.y1 + 1  # noqa: PT018 - inside
    for axis in (axes.xaxis, axes.yaxis):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        assert len(set(labels)) == len(labels) == (len(names) if len(names) <= 60 else 59)
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        assert not any(one.shrunk(0.9, 0.9).overlaps(other) for one, other in pairwise(boxes))


def test_more_classes_get_more_room(tmp_path: Path) -> None:
    for count in (2, 10):
        draw_confusion(sparse([[1] * count] * count), ["x"] * count, tmp_path / f"{count}.png", title="")
    assert opened(tmp_path / "10.png").width > opened(tmp_path / "2.png").width


def test_a_class_without_images_has_an_empty_row(tmp_path: Path) -> None:
    draw_confusion(sparse([[0, 0], [1, 2]]), ["cat", "dog"], tmp_path / "confusion.png", title="")
    opened(tmp_path / "confusion.png")


@pytest.mark.parametrize("title", ["$^$", ""])
def test_names_are_text_and_no_formulas(tmp_path: Path, title: str) -> None:
    """Class and file names are the user's: matplotlib reads what stands between two dollars as mathematics."""
    names = ["$^$", "$5 or $10", "a\\b_{} <b> 50%", ""]
    draw_confusion(sparse(np.eye(4)), names, tmp_path / "confusion.png", title=title)
    draw_curves(records(2), tmp_path / "curves.png", title=title)
    for figure in ("confusion", "curves"):
        opened(tmp_path / f"{figure}.png")


@pytest.mark.parametrize("keeps_last", [False, True])
def test_the_star_is_at_the_epoch_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keeps_last: bool
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, _path: drawn.append(figure))
    both = [
        replace(record, val_accuracy=share, is_best=True) for record, share in zip(records(2), (0.2, 0.1), strict=True)
    ]
    draw_curves(both, tmp_path / "curves.png", title="hot", keeps_last=keeps_last)
    *_, label = drawn[0].axes[1].get_legend_handles_labels()[1]
    assert label == f"{'kept' if keeps_last else 'best'}: 10.00 % in epoch 2"


@pytest.mark.parametrize("losses", [(0.69310, 0.69345), (0.0010, 0.0019), (12_000.0, 16_000.0), (0.2, 2.4)], ids=str)
def test_the_labels_of_curves_are_inside_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: tuple[float, float]
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(curves, "save_figure", lambda figure, _path: drawn.append(figure))
    two = [replace(record, train_loss=losses[0], val_loss=losses[1]) for record in records(2)]
    draw_curves(two, tmp_path / "curves.png", title="digits-001", note="a note")
    drawn[0].canvas.draw()
    for axes in drawn[0].axes:
        box = axes.get_tightbbox()
        assert box is not None
        assert (box.x0 >= 0, box.y0 >= 0, box.x1 <= drawn[0].bbox.x1) == (True, True, True)
    first, second = (axes.get_tightbbox() for axes in drawn[0].axes)
    assert first is not None
    assert second is not None
    assert first.x1 < second.x0
    (legend,) = drawn[0].legends
    below, above = legend.get_window_extent(), drawn[0].texts[0].get_window_extent()
    assert max(first.y1, second.y1) < below.y0 < below.y1 < above.y0  # of the title: it hides no curve


def test_the_rates_that_are_marked_are_in_the_legend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(rates, "save_figure", lambda figure, _path: drawn.append(figure))
    for diverged in (0.5, None):
        marks = {"suggested": 0.01, "configured": 0.02, "least": 0.1, "diverged": diverged}
        draw_rates([0.001, 0.1, 1.0], [2, 1, 3], [2, 1, 3], tmp_path / "rates.png", title="digits", **marks)
    named = [axes.get_legend_handles_labels()[1][2:] for figure in drawn for axes in figure.axes]
    marked = ["suggested: 0.01", "configured: 0.02", "least loss: 0.1", "diverged: 0.5"]
    assert named == [marked, marked[:-1]]
