"""A figure of the number of images of each class."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vitcli.core.errors import counted
from vitcli.core.short_names import distinct
from vitcli.figures.canvas import fitted, new_figure, save_figure, set_title

_MOST = 40
"""The largest number of classes of which all have a bar."""
_NAME_WIDTH = 36
_COLOURS = ("tab:blue", "tab:orange", "tab:green")


def draw_classes(
    counts: Sequence[tuple[str, Sequence[int]]], classes: Sequence[str], path: Path, *, title: str
) -> None:
    """Draw a bar for every class, one panel per split; the most frequent classes of the first split are at the top.

    If there are many classes, only those with the most and those with the fewest images are drawn.

    Args:
        counts: the name of each split, and its number of images for each class.
        classes: the names of the classes.
        path: the PNG file.
        title: the title above all panels.
    """
    order = sorted(range(len(classes)), key=lambda index: -counts[0][1][index])
    left_out = max(len(order) - _MOST, 0)
    bars: list[int | None] = [*order]
    if left_out:
        bars = [*order[: _MOST // 2], None, *order[-_MOST // 2 :]]
    named = distinct(classes, _NAME_WIDTH)
    names = [f"… {left_out:,} more …" if index is None else fitted(named[index], _NAME_WIDTH) for index in bars]
    figure = new_figure(2.4 + 2.7 * len(counts), max(2.2, 0.24 * len(bars) + 1.5))
    set_title(figure, title)
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    for axes, (split, numbers), colour in zip(panels, counts, _COLOURS, strict=False):
        _panel(axes, numbers, bars, colour)
        axes.set_title(f"{split}: {counted(sum(numbers), 'image')}", fontsize=10)
    panels[0].set_yticks(range(len(bars)), names, fontsize=8)
    panels[0].set_ylim(len(bars) - 0.4, -0.6)
    save_figure(figure, path)


def _panel(axes: Axes, numbers: Sequence[int], bars: Sequence[int | None], colour: str) -> None:
    """Draw one split: bars with counts and shares, and a dashed line at the mean of all classes."""
    total = max(sum(numbers), 1)
    longest, mean = max(*numbers, 1), total / len(numbers)
    for place, index in enumerate(bars):
        if index is None:
            continue
        count = numbers[index]
        axes.barh(place, count, color=colour, height=0.75)
        words = f"{count:,}  {100 * count / total:.1f} %"
        would_cross = count <= mean <= count + 0.45 * longest
        start = mean if would_cross else count
        axes.text(start + 0.03 * longest, place, words, va="center", fontsize=8)
    axes.axvline(mean, color="black", linestyle="--", linewidth=0.7)
    axes.set_xlim(0, 1.45 * longest)
    axes.set_xlabel("images (dashed: the mean of all classes)", fontsize=8)
    axes.tick_params(labelsize=8, length=2)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.spines[["top", "right"]].set_visible(False)
