"""The output of ``vit runs``, and of its subcommands that show and compare runs."""

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from vitcli.cli.console import print_facts, print_table, stderr, stdout
from vitcli.core.errors import counted, some
from vitcli.core.files import bytes_in_words
from vitcli.core.words import evaluation_in_words, interval, out_of_fold_in_words, percent_or_none, written

if TYPE_CHECKING:
    from vitcli.judging.pairs import Pair
    from vitcli.trained.run_rows import RunRow
    from vitcli.training.run_report import Evaluation, RunReport
    from vitcli.workflows.compare import RunsComparison

SHOWN = {"name", "status", "epochs", "val_accuracy", "test_accuracy", "started", "dataset", "model", "recipe", "tags"}
"""Fields that the list shows in any case."""
_MOST_FILES = 20
"""Number of files in a folder up to which every file is listed."""


def show_runs(rows: "Sequence[RunRow]", sort: str, values: Sequence[Any]) -> None:
    """Show the list of runs.

    Args:
        rows: the runs.
        sort: the field or the setting that they are sorted by; empty: none.
        values: its value in each row; None: it is shown in any case, or there is none.
    """
    print_table(
        ("run", "status", "epochs", "val", "test"),
        [
            (
                row.name,
                row.status_in_words,
                f"{row.epochs:,}",
                row.accuracy_in_words,
                percent_or_none(row.test_accuracy),
            )
            for row in rows
        ],
        numbers={2, 3, 4},
        below=[_below(row, sort, value) for row, value in zip(rows, values, strict=True)],
    )
    if seen := [row.name for row in rows if not row.test_held_out]:
        stderr().print(escape(f"test images that were not held out: {some(seen)}"))
    if outdated := [row for row in rows if row.test_outdated]:
        names = some([row.name for row in outdated])
        why = f"{'they were' if len(outdated) > 1 else 'it was'} trained further after the evaluation"
        again = f"`vit eval --model {shlex.quote(str(outdated[0].path))}` evaluates {outdated[0].name} again"
        stderr().print(escape(f"no test accuracy is shown for {names}, because {why}; {again}"))


def _below(row: "RunRow", sort: str, value: Any) -> str:
    tags = f", tags {', '.join(row.tags)}" if row.tags else ""
    shown = f"{value:.4g}" if isinstance(value, float) else written(value)
    sorted_by = "" if value is None else f", {sort} {shown}"
    return f"{row.started[:10]}, {row.dataset}, {row.model_in_words}, recipe {row.recipe or 'none'}{tags}{sorted_by}"


def show_report(report: "RunReport") -> None:
    """Show one run, or a group with its runs."""
    print_facts(report.in_words())
    if report.runs:
        stdout().print("\n[bold]runs[/]")
        print_table(
            ("run", "status", "epochs", "val", "test"),
            [
                (row.name, row.status, f"{row.epochs:,}", row.accuracy_in_words, percent_or_none(row.test_accuracy))
                for row in report.runs
            ],
            numbers={2, 3, 4},
        )
    if report.settings:
        usual = "the recipe's" if report.row.recipe and report.usual != "defaults" else "the default"
        stdout().print(f"\n[bold]settings[/] that differ from {escape(report.usual)}")
        rows = [(each.setting, written(each.value), written(each.usual)) for each in report.settings]
        print_table(("setting", "value", usual), rows, numbers=())
    if report.evaluations:
        stdout().print("\n[bold]evaluations[/]")
        judged = [_evaluation(each) for each in report.evaluations]
        within = [
            f"95 % interval of top-1:{interval(each.top1_interval)}" if each.top1_interval else "no interval is stored"
            for each in report.evaluations
        ]
        headings = ("images", "number", "top-1", "balanced", "macro F1", "loss")
        print_table(headings, judged, numbers={1, 2, 3, 4, 5}, below=within)
        if any("-" in row for row in judged):
            stdout().print("-: stored by an earlier version, without this number", style="dim")
        for each in report.evaluations:
            if each.is_outdated:
                why = "the run was trained further after this evaluation"
                stderr().print(escape(f"{each.name}: {why}; `{each.command}` evaluates it again"))
            if each.name == "out-of-fold":
                why = out_of_fold_in_words(keeps_best=not report.keeps_last)
                stderr().print(escape(f"{evaluation_in_words(each.name)}: {why}"))
            elif each.held_out is False:
                why = "not held out, because these images chose the epoch, or were scored in training"
                stderr().print(escape(f"{each.name}: {why}"))
    stdout().print("\n[bold]files[/]")
    print_facts(dict(_listed(report.files)))


def _listed(files: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield the name and the size of each file; a folder of many files has one line."""
    by_folder = defaultdict[str, dict[str, int]](dict)
    for name, size in files.items():
        by_folder[name.rpartition("/")[0]][name] = size
    for folder, inside in by_folder.items():
        if folder and len(inside) > _MOST_FILES:
            yield f"{folder}/", f"{len(inside):,} files, {bytes_in_words(sum(inside.values()))}"
        else:
            yield from ((name, bytes_in_words(size)) for name, size in inside.items())


def _evaluation(each: "Evaluation") -> tuple[str, ...]:
    shares = [percent_or_none(share) for share in (each.top1, each.balanced_accuracy, each.macro_f1)]
    count = "-" if each.images is None else f"{each.images:,}"
    return evaluation_in_words(each.name), count, *shares, "-" if each.loss is None else f"{each.loss:.4f}"


def show_comparison(result: "RunsComparison") -> None:
    """Show the settings that differ, and the comparison with the first run."""
    if result.settings:
        stdout().print("[bold]settings[/] that differ")
        rows = [(each.setting, *map(written, each.values)) for each in result.settings]
        print_table(("setting", *result.runs), rows, numbers=())
    else:
        stdout().print("all settings are the same")
    for pair in result.pairs:
        _show_pair(pair, result.evaluation)
    stdout().print()
    files = {"curves": result.figure, "images that changed sides": result.table}
    print_facts({name: str(path) for name, path in files.items() if path})
    if len(result.pairs) > 1:
        stderr().print(f"each p-value is of one comparison; of {len(result.pairs)}, one is small by chance more often")
    for name, command in result.missing.items():
        stderr().print(escape(f"{name} {result.why_missing[name]}. To evaluate it, type `{command}`"))


def _show_pair(pair: "Pair", evaluation: str) -> None:
    result = pair.comparison
    names = f"[bold]{escape(pair.second)}[/] compared with [bold]{escape(pair.first)}[/]"
    images = counted(result.images, "image")
    which = f"out-of-fold predictions, {images}" if evaluation == "out-of-fold" else f"{images} of {evaluation}"
    stdout().print(f"\n{names}, {escape(which)}")
    print_table(pair.headings, pair.rows(), numbers={1, 2, 3, 4})
    stdout().print("changes are in percentage points, that of the loss in nats", style="dim")
    if why := pair.missing():
        stdout().print(escape(why), style="dim")
    print_facts(pair.in_words())
