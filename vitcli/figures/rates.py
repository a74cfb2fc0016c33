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
    configured: float,
    least: float,
    diverged: float | None,
    title: str,
) -> None:
    """Draw the losses of single batches and the smoothed loss over the learning rate; some learning rates are marked.

    Args:
        rates: the learning rates, rising.
        losses: the loss of the batch of each step, in nats.
        smoothed: the smoothed losses, in nats.
        path: the PNG file.
        suggested: the suggested learning rate.
        configured: the one in the configuration.
        least: the learning rate with the least smoothed loss.
        diverged: the one at which the loss has risen again; None: at none.
        title: the title of the figure.
    """
    figure = new_figure(7, 4.2)
    set_title(figure, title)
    axes = figure.subplots()
    axes.plot(rates, losses, ".", color="tab:grey", markersize=3, label="batches")
    axes.plot(rates, smoothed, color="tab:blue", label="smoothed")
    marks = (
        ("suggested", suggested, "tab:green", "-"),
        ("configured", configured, "tab:orange", "--"),
        ("least loss", least, "black", ":"),
        ("diverged", diverged, "tab:red", ":"),
    )
    for name, rate, colour, style in marks:
        if rate is not None:
            axes.axvline(rate, color=colour, linestyle=style, label=f"{name}: {rate:.2g}")
    low, high = min(losses), max(smoothed[: list(smoothed).index(min(smoothed)) + 1])
    axes.set_ylim(low - 0.1 * (high - low), high + (high - low))  # losses that diverge are cut off
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (nats)")
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
