"""A figure of the loss over the learning rate, as measured by a range test."""

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
    """Draw the losses of single batches and the smoothed loss over the learning rate; two learning rates are marked.

    Args:
        rates: the learning rates, rising.
        losses: the loss of the batch of each step, in nats.
        smoothed: the smoothed losses, in nats.
        path: the PNG file.
        suggested: the suggested learning rate.
        least: the learning rate with the least smoothed loss.
        title: the title of the figure.
    """
    figure = new_figure(7, 4.2)
    set_title(figure, title)
    axes = figure.subplots()
    axes.plot(rates, losses, ".", color="tab:grey", markersize=3, label="batches")
    axes.plot(rates, smoothed, color="tab:blue", label="smoothed")
    axes.axvline(suggested, color="tab:green", label=f"suggested: {suggested:.2g}")
    axes.axvline(least, color="black", linestyle=":", label=f"least loss: {least:.2g}")
    low, high = min(losses), max(smoothed[: list(smoothed).index(min(smoothed)) + 1])
    axes.set_ylim(low - 0.1 * (high - low), high + (high - low))  # losses that diverge are cut off
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (nats)")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
