"""The output of ``vit train``, ``--dry-run`` and ``--find-lr``."""

import math
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape

from vitcli.cli.console import print_facts, print_table, stderr, stdout
from vitcli.core.errors import some
from vitcli.core.provenance import retyped
from vitcli.core.run_search import output_dir_option
from vitcli.core.words import duration, percent, written
from vitcli.models.registry import changed_sizes, with_sizes

if TYPE_CHECKING:
    from vitcli.training.groups import FoldsResult, SeedsResult
    from vitcli.training.result import TrainResult
    from vitcli.workflows.dry_run import DryRun
    from vitcli.workflows.find_lr import FoundRate

_SUBMISSION = " --submission submission.csv[/]  predicts the test images of the competition"
_ONLY_HERE = ("--find-lr", "--json")
_RATE_FLAGS = {"optim.lr": "--lr", "optim.head_lr": "--head-lr"}


def show_result(result: "TrainResult | FoldsResult | SeedsResult") -> None:
    """Show the result of a run or of a group of runs."""
    from vitcli.training.result import TrainResult  # costs no time: it is loaded already

    show_run(result) if isinstance(result, TrainResult) else show_group(result)


def show_run(result: "TrainResult") -> None:
    """Show one run, and the next commands."""
    best = result.best
    images = {"to train": result.train_images, "to validate": result.val_images, "to test": result.test_images}
    counts = ", ".join(f"{count:,} {use}" for use, count in images.items())
    print_facts(
        {
            "run": str(result.path),
            "data": f"{result.dataset}: {result.classes:,} classes; images: {counts}",
            "model": f"{result.model_in_words}, {result.parameters:,} parameters",
            "kept epoch" if result.keeps_last else "best epoch": f"{best.epoch} of {result.epochs}",
            "validation accuracy": percent(best.val_accuracy),
            "validation loss": f"{best.val_loss:.4f}",
            "time": f"{duration(result.seconds)} on {result.device}",
        }
    )
    folder = result.path.parent
    chosen = escape(output_dir_option(folder))
    submit = f"\n      [bold]vit predict{chosen}{_SUBMISSION}" if result.is_competition else ""
    stderr().print(
        f"\nnext: [bold]vit eval{chosen}[/]  evaluates it on the {'test' if result.test_images else 'validation'} images"
        f"{submit}"
        f"\n      [bold]vit predict{chosen} IMAGE[/]"
        f"\n      [bold]vit attention-map{chosen} IMAGE[/]"
    )


def show_group(result: "FoldsResult | SeedsResult") -> None:
    """Show the runs of a group, and the mean and deviation of their accuracies; of seeds, also the mean's interval."""
    from vitcli.training.groups import SeedsResult

    best = {each.run: percent(each.best.val_accuracy) for each in result.members}
    mean = f"{100 * result.val_accuracy:.2f} ± {percent(result.val_accuracy_spread)}"
    table = {}
    if isinstance(result, SeedsResult):
        ends = result.val_accuracy_interval
        shown = f"{percent(ends[0])} - {percent(ends[1])}" if ends else "not known: all runs have the same accuracy"
        table["95 % interval of the mean"] = shown
    elif result.out_of_fold:
        table["out of fold"] = str(result.out_of_fold)
    print_facts({**best, "mean ± deviation": mean, **table, "runs": str(result.path)})
    folder = result.path.parent
    chosen = escape(output_dir_option(folder))
    first, typed = result.members[0], f"{chosen} --model {escape(shlex.quote(result.run))}"
    commands = []
    if first.test_images:
        commands.append(f"[bold]vit eval{typed}[/]  evaluates the average of these models")
    elif not isinstance(result, SeedsResult) and result.out_of_fold:
        commands.append(f"[bold]vit eval{typed}[/]  evaluates the out-of-fold predictions")
    if first.is_competition:
        commands.append(f"[bold]vit predict{typed}{_SUBMISSION}")
    commands.append(f"[bold]vit predict{typed} IMAGE[/]  predicts with this average")
    stderr().print("\nnext: " + "\n      ".join(commands))


_FLAT = 0.1
"""The loss counts as flat if it has risen by at most this share of its earlier fall."""
_MOST = 20
"""Maximum number of lines or names of one kind."""


def show_dry_run(report: "DryRun") -> None:
    """Show the findings of a dry run, problems first."""
    problems = [f"{len(names):,} {what}: {', '.join(names[:_MOST])}" for what, names in report.left_out.items()]
    problems += [reason if name in reason else f"{name}: {reason}" for name, reason in report.bad.items()]
    for leak in report.duplicates.leaks:
        pairs = ", ".join(" = ".join(pair) for pair in leak.examples)
        problems.append(f"{leak.words}: {pairs}")
    if without := [name for name, count in report.balance.counts.items() if not count]:
        problems.append(f"no training image of: {some(without)}")
    problems += [f"one image, different labels: {_few(names)}" for names in report.duplicates.contradictory]
    console = stdout()
    for problem in problems[:_MOST]:
        console.print(f"[bold red]problem:[/] {escape(problem)}")
    if len(problems) > _MOST:
        console.print(f"... and {len(problems) - _MOST:,} more; --json has them all")
    classes, skips = report.balance, report.settings["data"]["on_bad_image"].value == "skip"
    counts = sorted(classes.counts.items(), key=lambda item: -item[1])
    named = [f"{name}: {count:,}" for name, count in counts]
    shown = named if len(named) <= _MOST else [*named[:5], "...", *named[-5:]]
    least = min((count for _, count in counts if count), default=1)
    model = {key: setting.value for key, setting in report.settings["model"].items()}
    print_facts(
        {
            "data": f"{report.dataset}: " + ", ".join(f"{count:,} {name}" for name, count in report.images.items()),
            "unreadable": f"{len(report.bad):,}{', left out' if report.bad and skips else ''}",
            "odd but handled": ", ".join(f"{count:,} {kind}" for kind, count in report.kinds.items()) or "none",
            **({"black to white": "{:g} to {:g}".format(*report.value_range)} if report.value_range else {}),
            "repeated in training": _repeated(report),
            **({"without images": _rare(report)} if report.rare else {}),
            "classes": ", ".join(shown),
            "imbalance": f"{counts[0][1] / least:.1f} to 1",
            "majority class": f"always answering {classes.majority!r} scores {percent(classes.majority_share)}",
            "model": f"{with_sizes(report.model, changed_sizes(report.model, model))}, recipe {report.recipe}",
            "time": f"{1000 * report.step_seconds:,.0f} ms a step, {duration(report.epoch_seconds)} an epoch, "
            f"{duration(report.training_seconds)} in all, on {report.device}",
            "decoding": _decoding(report.decode_seconds),
            "memory": f"{report.memory_bytes / 1e9:.1f} GB" if report.memory_bytes else "not known",
        }
    )
    rows = [
        (f"{section}.{key}", written(setting.value), setting.source)
        for section, table in report.settings.items()
        for key, setting in table.items()
        if setting.source != "default"
    ]
    console.print()
    print_table(("setting", "value", "from"), rows, numbers=())
    console.print("[dim]all other settings have their defaults; --json lists them too[/]")
    verdict = (
        "training can start" if report.would_start else "training would stop; --on-bad-image skip leaves out bad images"
    )
    stderr().print(f"\n{verdict}")


def _decoding(seconds: float) -> str:
    if not seconds:
        return "none: the images are not in files"
    shown = "less than 0.1 s" if seconds < 0.05 else duration(seconds)  # not 0.0 s
    return f"{shown} for all images, once if they are cached"


def _repeated(report: "DryRun") -> str:
    names = report.duplicates.repeats
    return f"{report.duplicates.repeated:,}" + (f": {'; '.join(map(_few, names[:_MOST]))}" if names else "")


def _few(names: str) -> str:
    """Shorten a long list of equal images; --json has all of them."""
    each = names.split(" = ")
    return names if len(each) <= _MOST else f"{' = '.join(each[:_MOST])} = ... ({len(each):,} images)"


def _rare(report: "DryRun") -> str:
    lacking = "; ".join(f"{split} lacks {some(names)}" for split, names in report.rare.items())
    return f"{lacking} (too few images{', or none that can be read' if report.bad else ''})"


def show_found_rate(found: "FoundRate", typed: Sequence[str]) -> None:
    """Show the learning rates that were found, and the command that trains with them.

    Args:
        found: the result.
        typed: the words after ``vit`` on the command line.
    """
    verdict, is_good = _judged(found)
    print_facts(
        {
            "data": found.dataset,
            "model": f"{with_sizes(found.model, found.changed_sizes)}, recipe {found.recipe}, {found.optimizer}",
            "suggested": f"{found.lr:g}",
            "configured": f"{found.configured:g}{verdict}",
            "least loss": f"at {found.least:.2g}",
            "diverges": f"not up to {found.points[-1].lr:.2g}"
            if found.diverged is None
            else f"at {found.diverged:.2g}",
            "steps": f"{len(found.points)}",
            "figure": str(found.figure),
        }
    )
    suggested = escape(shlex.join(["vit", *next_words(found.settings, typed)]))
    if is_good:
        kept = escape(shlex.join(["vit", *retyped(typed, flags=_ONLY_HERE)]))
        stderr().print(f"\nnext: [bold]{kept}[/]  trains with the configured rate")
        stderr().print(f"or:   [bold]{suggested}[/]  with the suggested one")
    else:
        stderr().print(f"\nnext: [bold]{suggested}[/]")


def _judged(found: "FoundRate") -> tuple[str, bool]:
    """Say whether the configured rate, if it is higher than the suggested one, is good too, and return both."""
    if found.configured <= found.lr:
        return "", False
    if found.configured <= found.least:
        return ", where the loss is still falling: good too", True
    best = min(found.points, key=lambda point: point.smoothed)
    highest = max(point.smoothed for point in found.points[: found.points.index(best) + 1])
    there = min(found.points, key=lambda point: abs(math.log(point.lr / found.configured)))
    if there.smoothed - best.smoothed <= _FLAT * (highest - best.smoothed):
        return ", where the loss is still near its least: good too", True
    return ", where the loss already rises again: probably too high", False


def next_words(settings: dict[str, float], typed: Sequence[str]) -> list[str]:
    """Return the typed words with the learning rates that were found."""
    words = retyped(typed, options=_RATE_FLAGS.values(), flags=_ONLY_HERE)
    for key, rate in settings.items():
        words += [_RATE_FLAGS[key], f"{rate:g}"] if key in _RATE_FLAGS else ["--set", f"{key}={rate:g}"]
    return words
