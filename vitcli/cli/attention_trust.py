"""The output of ``vit attention-map --score`` and ``--check``."""

from typing import TYPE_CHECKING

from rich.markup import escape

from vitcli.cli.console import print_json, print_table, stderr, stdout
from vitcli.core.words import percent

if TYPE_CHECKING:
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

_SCORES = {
    "gain over noise": "how much better the map is than noise, on average over the scores from del to neg",
    "del, ins": "probability of the class while the strongest patches are hidden first (del) or shown first (ins)",
    "del-blur, ins-blur": "the same, with a blurred image in place of hidden patches, not the colour that is 0 for the model",
    "pos, neg": "share of right answers while the strongest (pos) or the weakest (neg) patches are hidden first",
    "sink": "share of the map on class and register tokens, which no pixel shows",
    "\u2193, \u2191": "lower or higher is better",
}
"""The columns of the tables of scores."""

_CHECKS = {
    "head replaced": "correlation with the map after the head gets random weights, 0 to 1",
    "all replaced": "after all weights are random; passes if closer to chance than to 1",
    "chance": "correlation with noise",
    "other class": "correlation with the map of the least likely class, -1 to 1",
    "ignores class": "the map depends on the weights, but the method reads only attention, which no class changes",
}
"""The columns of the table of checks, and the verdict that is neither good nor bad."""


def show_trust(trust: "Trust", *, as_json: bool) -> None:
    """Print tables and verdicts, or everything as JSON."""
    if as_json:
        print_json(trust)
        return
    if trust.scores:
        _print_scores(trust.scores)
    if trust.scores and trust.checks:
        stdout().print()
    if trust.checks:
        _print_checks(trust.checks)
    for path in trust.stored:
        stderr().print(f"[dim]all values: {escape(str(path))}[/]")


def _print_scores(scores: "ScoreTable") -> None:
    """Print the gain of each method over noise, then its mean scores, then the verdict."""
    *methods, _noise = scores.rows
    styles = ["bold" if row.method == scores.trusted else "" if row.beats_random else "dim" for row in scores.rows]
    gains = [(row.method, f"{row.gain.mean:+.3f}", f"{row.gain.low:+.3f} to {row.gain.high:+.3f}") for row in methods]
    print_table(("method", "gain over noise", "95 % interval"), gains, numbers={1, 2}, styles=styles[:-1])
    stdout().print()
    values = [
        [
            row.method,
            *(
                percent(score.value.mean) if name == "sink_share" else f"{score.value.mean:.3f}"
                for name, score in row.scores.items()
            ),
        ]
        for row in scores.rows
    ]
    headings = ("method", *(_SHORT[name] for name in scores.rows[0].scores))
    print_table(headings, values, numbers=range(1, len(headings)), styles=styles)
    _explain(_SCORES)
    stdout().print(f"\n{escape(scores.verdict)}")


def _print_checks(checks: "CheckTable") -> None:
    """Print the correlation of each method's maps before and after the changes, then what else is to say."""
    rows = [
        (
            row.method,
            row.verdict if row.verdict in {"passes", "fails"} else "ignores class",
            *(f"{row.stages[at].correlation:.2f}" for at in (0, -1)),
            f"{row.chance:.2f}",
            "" if row.other_class is None else f"{row.other_class:.2f}",
        )
        for row in checks.rows
    ]
    styles = ["red" if row.verdict == "fails" else "" for row in checks.rows]
    headings = ("method", "verdict", "head replaced", "all replaced", "chance", "other class")
    print_table(headings, rows, numbers={2, 3, 4, 5}, styles=styles)
    _explain(_CHECKS)
    for row in checks.rows:
        if row.text:
            stdout().print(f"[bold]{row.method}[/]: {escape(row.text)}")


def _explain(columns: dict[str, str]) -> None:
    for column, meaning in columns.items():
        stdout().print(f"[dim]{column}: {meaning}[/]")
