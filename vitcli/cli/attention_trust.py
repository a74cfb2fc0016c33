"""The output of ``vit attention-map --score`` and ``--check``."""

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from vitcli.cli.console import print_json, stderr, stdout
from vitcli.core.words import percent

if TYPE_CHECKING:
    from vitcli.attention.intervals import Interval
    from vitcli.explaining.checks import CheckTable
    from vitcli.explaining.scores import ScoreTable
    from vitcli.workflows.attention_trust import Trust

_SHORT = {
    "deletion": "del \u2193",
    "deletion_blur": "del-blur \u2193",
    "insertion": "ins \u2191",
    "insertion_blur": "ins-blur \u2191",
    "positive": "pos \u2193",
    "negative": "neg \u2191",
    "sink_share": "sink",
}
"""Column names; the arrow shows which direction is better."""

_MEANINGS = {
    "head replaced": "correlation with the map after the head gets random weights, 0 to 1",
    "all replaced": "after all weights are random; passes if closer to chance than to 1",
    "chance": "correlation with noise",
    "other class": "correlation with the map of the least likely class, -1 to 1",
    "ignores class": "the method reads only attention, which no class changes",
}
"""The columns of the table of checks, and the verdict that is neither good nor bad."""


def show_trust(trust: "Trust", *, as_json: bool) -> None:
    """Print tables and verdicts, or everything as JSON."""
    if as_json:
        print_json(trust)
        return
    if trust.scores:
        stdout().print(_score_table(trust.scores))
        stdout().print(f"\n{escape(trust.scores.verdict)}")
    if trust.checks:
        stdout().print(_check_table(trust.checks))
        for column, meaning in _MEANINGS.items():
            stdout().print(f"[dim]{column}: {meaning}[/]")
        for row in trust.checks.rows:
            if row.text:
                stdout().print(f"[bold]{row.method}[/]: {escape(row.text)}")
    if trust.stored:
        stderr().print(f"[dim]all values, with intervals: {escape(str(trust.stored))}[/]")


def _score_table(scores: "ScoreTable") -> Table:
    """Build the table of scores: one row per method, with its gain over noise and its mean scores."""
    table = _table("method", "gain over noise (95 %)", *(_SHORT[name] for name in scores.rows[0].scores))
    for row in scores.rows:
        is_noise = row is scores.rows[-1]
        gain = "" if is_noise else _with_bounds(row.gain)
        style = "dim" if is_noise or not row.beats_random else "bold" if row.method == scores.trusted else ""
        values = [
            percent(score.value.mean) if name == "sink_share" else f"{score.value.mean:.3f}"
            for name, score in row.scores.items()
        ]
        table.add_row(row.method, gain, *values, style=style)
    return table


def _check_table(checks: "CheckTable") -> Table:
    """Build the table of checks: one row per method, with the correlation of its maps before and after the changes."""
    table = _table("method", "verdict", "head replaced", "all replaced", "chance", "other class")
    colours = {"passes": "green", "fails": "red"}
    for row in checks.rows:
        verdict = f"[{colours[row.verdict]}]{row.verdict}[/]" if row.verdict in colours else "ignores class"
        other = "" if row.other_class is None else f"{row.other_class:.2f}"
        first, last = (f"{row.stages[at].correlation:.2f}" for at in (0, -1))
        table.add_row(row.method, verdict, first, last, f"{row.chance:.2f}", other)
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        is_words = column in {"method", "verdict"}
        table.add_column(column, justify="left" if is_words else "right", no_wrap=column == "method")
    return table


def _with_bounds(interval: "Interval") -> str:
    return f"{interval.mean:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
