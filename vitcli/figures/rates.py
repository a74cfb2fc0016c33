"""The loss over learning rates, as a range test finds it."""

from collections.abc import Sequence
from pathlib import Path

from vitcli.figures.canvas import new_figure, save_figure, set_title


def draw_rates(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    path: Path,
    *,
    suggested: float,
    least: float,
    title: str,
) -> None:
    """Losses of single batches, and their smoothed course; two rates are marked.

    Args:
        rates: learning rates, rising.
        losses: of the batch of each step, in nats.
        smoothed: the same.
        path: the PNG file.
        suggested: the rate to take.
        least: the rate at which the smoothed loss is least.
        title: above all.
    """
    figure = new_figure(7, 4.2)
    set_title(figure, title)
    axes = figure.subplots()
    axes.plot(rates, losses, ".", color="tab:grey", markersize=3, label="batches")
    axes.plot(rates, smoothed, color="tab:blue", label="smoothed")
    axes.axvline(suggested, color="tab:green", label=f"suggested: {suggested:.2g}")
    axes.axvline(least, color="black", linestyle=":", label=f"least loss: {least:.2g}")
    low, high = min(losses), max(smoothed[: list(smoothed).index(min(smoothed)) + 1])
    axes.set_ylim(low - 0.1 * (high - low), high + (high - low))  # what diverges leaves the picture
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (nats)")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
