"""What ``vit train --find-lr`` shows."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from vitcli.cli.console import print_facts, stderr

if TYPE_CHECKING:
    from vitcli.workflows.find_lr import FoundRate

_FLAGS = {"optim.lr": "--lr", "optim.head_lr": "--head-lr"}


def show_found_rate(found: "FoundRate", typed: Sequence[str]) -> None:
    """The rates, and the command that trains with them.

    Args:
        found: the result.
        typed: the words after ``vit``.
    """
    print_facts(
        {
            "data": found.dataset,
            "model": f"{found.model}, recipe {found.recipe}, {found.optimizer}",
            "suggested": f"{found.lr:g} (without it: {found.configured:g})",
            "least loss": f"at {found.least:.2g}",
            "diverges": "not up to the highest" if found.diverged is None else f"at {found.diverged:.2g}",
            "steps": f"{len(found.points)}",
            "figure": str(found.figure),
        }
    )
    stderr().print(f"\nnext: [bold]{escape(shlex.join(['vit', *next_words(found.settings, typed)]))}[/]")


def next_words(settings: dict[str, float], typed: Sequence[str]) -> list[str]:
    """The same words again, with other rates."""
    words = []
    rest = iter(typed)
    for word in rest:
        name, has_value, _ = word.partition("=")
        if name in _FLAGS.values():
            if not has_value:
                next(rest)
        elif name not in {"--find-lr", "--json"}:
            words.append(word)
    for key, rate in settings.items():
        words += [_FLAGS[key], f"{rate:g}"] if key in _FLAGS else ["--set", f"{key}={rate:g}"]
    return words
