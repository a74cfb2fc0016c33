"""The command ``vit runs``, which lists the runs, and its subcommands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from vitcli.cli.console import listening, print_facts, print_json, print_table, stderr, stdout
from vitcli.cli.examples import epilog
from vitcli.cli.options import EXPERIMENTS, JsonOption, OutputDirOption, RunsCommand, RunsGroup
from vitcli.cli.words import duration, percent, written
from vitcli.core.errors import UsageError, some
from vitcli.core.files import bytes_in_words

if TYPE_CHECKING:
    from vitcli.judging.pairs import Pair
    from vitcli.trained.run_rows import RunRow
    from vitcli.workflows.show_run import Evaluation, RunReport

group = typer.Typer(
    name="runs",
    cls=RunsGroup,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)

_SIGNIFICANT = 0.05
"""The p-value below which accuracies are said to differ, as the intervals have 95 %."""
_SHOWN = {"name", "status", "epochs", "val_accuracy", "test_accuracy", "started", "dataset", "model", "recipe", "tags"}
"""Fields that the list shows in any case."""
RunArgument = Annotated[
    str, typer.Argument(help="The name or the path of a run or a cross-validation.", show_default=False, metavar="RUN")
]


@group.callback(epilog=epilog("runs"))
def runs(
    context: typer.Context,
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            help="Order by a field of --json (val_accuracy, seconds, ...) or a setting (optim.lr).",
            show_default="newest first",
        ),
    ] = "",
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="KEY=VALUE", help="Only runs with this field, setting or tag; can be repeated."
        ),
    ] = None,
    output_dir: OutputDirOption = EXPERIMENTS,
    as_json: JsonOption = False,
) -> None:
    """List the runs, the newest first; subcommands show one, compare some, and change names and tags.

    With --sort, the best scores, the newest times and the lowest other values come first, runs without a value last.
    """
    if context.invoked_subcommand and (sort or filters):
        raise UsageError(
            "--sort and --filter are for the list of runs", hint="vit runs --sort FIELD, without a subcommand"
        )
    if context.invoked_subcommand:  # options before the name of a subcommand count as those after it
        given: dict[str, Any] = {"output_dir": output_dir, "as_json": as_json}
        context.default_map = {context.invoked_subcommand: given}
        return
    from vitcli.workflows.runs import list_runs, value_of

    with listening() as emit:
        rows = list_runs(output_dir, sort=sort, filters=filters or (), emit=emit)
    if as_json:
        print_json(rows)
        return
    if not rows:
        hint = "leave out --filter" if filters else "`vit train` makes one"
        stderr().print(escape(f"no {'such ' if filters else ''}runs in {output_dir}; {hint}"))
        return

    def below(row: "RunRow") -> str:
        tags = f", tags {', '.join(row.tags)}" if row.tags else ""
        value = f", {sort} {written(value_of(row, sort))}" if sort and sort not in _SHOWN else ""
        return f"{row.started[:10]}, {row.dataset}, {row.model}, recipe {row.recipe or 'none'}{tags}{value}"

    print_table(
        ("run", "status", "epochs", "val", "test"),
        [
            (row.name, _status(row), f"{row.epochs:,}", _accuracy(row), _percent_or_none(row.test_accuracy))
            for row in rows
        ],
        numbers={2, 3, 4},
        below=[below(row) for row in rows],
    )
    if seen := [row.name for row in rows if not row.test_held_out]:
        stderr().print(escape(f"test images that were not held out: {some(seen)}"))
    if outdated := [row.name for row in rows if row.test_outdated]:
        again = f"`vit eval --model {outdated[0]}` evaluates the epoch that is kept now"
        stderr().print(
            escape(f"trained on after its evaluation, so without a test accuracy: {some(outdated)}; {again}")
        )


@group.command(epilog=epilog("runs show"), cls=RunsCommand)
def show(run: RunArgument, output_dir: OutputDirOption = EXPERIMENTS, as_json: JsonOption = False) -> None:
    """Show one run: what was trained, how it ended, its evaluations and files, and how to repeat it."""
    from vitcli.workflows.show_run import show_run

    with listening() as emit:
        report = show_run(run, output_dir, emit)
    if as_json:
        print_json(report)
        return
    _show_facts(report)
    if report.runs:
        stdout().print("\n[bold]runs[/]")
        print_table(
            ("run", "status", "epochs", "val", "test"),
            [
                (row.name, row.status, f"{row.epochs:,}", _accuracy(row), _percent_or_none(row.test_accuracy))
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
        stdout().print("\n[bold]evaluations[/], with 95 % intervals")
        judged = [_evaluation(each) for each in report.evaluations]
        print_table(("images", "number", "top-1", "balanced", "macro F1", "loss"), judged, numbers={1, 2, 3, 4, 5})
        again = f"vit eval --model {report.row.name}"
        for each in report.evaluations:
            if each.is_outdated:
                stderr().print(escape(f"{each.name} was evaluated before the run was trained on: `{again}`"))
            if each.held_out is False:
                stderr().print(escape(f"{each.name}: not held out, because these images were used in training"))
    stdout().print("\n[bold]files[/]")
    print_facts({name: bytes_in_words(size) for name, size in report.files.items()})


@group.command(epilog=epilog("runs best"))
def best(
    metric: Annotated[
        str, typer.Option("--metric", help="Number to compare: val_accuracy, test_loss, ...")
    ] = "val_accuracy",
    data: Annotated[
        str, typer.Option("--data", help="Data set of the runs.", show_default="that of the newest finished run")
    ] = "",
    output_dir: OutputDirOption = EXPERIMENTS,
    as_json: JsonOption = False,
) -> None:
    """Print the name of the best finished run on a data set, alone on stdout, for scripts.

    Numbers: val_accuracy, val_loss, test_accuracy, test_balanced_accuracy, test_macro_f1, test_loss, seconds, parameters.
    """
    from vitcli.workflows.runs import best_run

    with listening() as emit:
        found = best_run(output_dir, metric=metric, data=data, emit=emit)
    print_json(found) if as_json else stdout().print(escape(found.name), soft_wrap=True)
    value = percent(found.value) if metric.endswith(("accuracy", "f1")) else f"{found.value:,.6g}"
    stderr().print(escape(f"the best of {found.compared} on {found.dataset} by {metric}: {value}"))
    if found.without:
        stderr().print(
            escape(
                f"without a {metric} of held-out images: {some(found.without)}"
                if metric.startswith("test")
                else f"without a {metric}: {some(found.without)}"
            )
        )


def _show_facts(report: "RunReport") -> None:
    row, best = report.row, report.best
    images = ", ".join(f"{count:,} {use}" for use, count in report.images.items())
    classes = f"{report.classes:,} classes" if report.classes else ""
    parameters = f"{report.parameters:,} parameters" if report.parameters else ""
    starts = {"starts from": report.init_from, "teacher": report.teacher}
    resumed = f", resumed {row.resumed} times" if row.resumed > 1 else ", resumed once" if row.resumed else ""
    hardware = report.hardware
    machine = [hardware.get("cpu"), hardware.get("cores") and f"{hardware['cores']} cores"]
    machine += [gpu["name"] for gpu in hardware.get("gpus", ())]
    versions = ", ".join(f"{name} {value}" for name, value in report.versions.items())
    planned = report.planned_epochs or row.epochs
    scores = {"best epoch": f"{row.best_epoch} of {row.epochs}"} if row.best_epoch else {}
    if row.val_accuracy is not None:
        loss = "" if row.val_loss is None else f", loss {row.val_loss:.4f}"
        scores["validation"] = f"{_accuracy(row)}{loss}"
    print_facts(
        {
            "run": row.name,
            "folder": str(row.path),
            "status": _status(row) + (f", after {row.epochs:,} of {planned:,} epochs" if best is not None else ""),
            "data": ": ".join(filter(None, (row.dataset, "; ".join(filter(None, (classes, images)))))),
            "model": ", ".join(filter(None, (row.model, parameters))),
            "recipe": row.recipe or "none",
            **{name: value for name, value in starts.items() if value},
            **scores,
            "time": ("" if row.seconds is None else f"{duration(row.seconds)} on {report.device}, ")
            + f"started {row.started[:16].replace('T', ' ')} UTC{resumed}",
            "machine": ", ".join(str(each) for each in machine if each) or "not known",
            "versions": versions,
            **({"commit": report.git_commit} if report.git_commit else {}),
            "command": report.command,
            "repeat": report.repeat,
        }
    )


def _evaluation(each: "Evaluation") -> tuple[str, ...]:
    ends = each.top1_interval
    top1 = percent(each.top1) + (f" [{percent(ends[0])} - {percent(ends[1])}]" if ends else "")
    shares = [_percent_or_none(share) for share in (each.balanced_accuracy, each.macro_f1)]
    count = "-" if each.images is None else f"{each.images:,}"
    return each.name, count, top1, *shares, "-" if each.loss is None else f"{each.loss:.4f}"


@group.command(epilog=epilog("runs compare"))
def compare(
    runs: Annotated[
        list[str], typer.Argument(help="Two or more runs or cross-validations.", show_default=False, metavar="RUN")
    ],
    split: Annotated[
        str,
        typer.Option("--split", help="Evaluation to compare: test, val, or the name of a file in evaluations/."),
    ] = "auto",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder of the curves and of the table of images.",
            show_default="comparisons/A-vs-B below --output-dir",
        ),
    ] = None,
    output_dir: OutputDirOption = EXPERIMENTS,
    as_json: JsonOption = False,
) -> None:
    """Compare runs with the first of them: settings that differ, curves, and differences on the same images.

    Differences have 95 % intervals of a paired bootstrap, and McNemar's exact test tells whether accuracies differ by
    more than chance. Both runs must have been evaluated with `vit eval`.
    """
    from vitcli.workflows.compare import compare as workflow

    with listening() as emit:
        result = workflow(runs, output_dir=output_dir, split=split, output=output, emit=emit)
    if as_json:
        print_json(result)
        return
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
        stderr().print(f"p-values are of one comparison each; {len(result.pairs)} of them find more by chance")
    for name, command in result.missing.items():
        stderr().print(
            escape(f"{name} has no evaluation on {result.evaluation} of the epoch that is kept: type `{command}`")
        )


def _show_pair(pair: "Pair", evaluation: str) -> None:
    result = pair.comparison
    names = f"[bold]{escape(pair.second)}[/] against [bold]{escape(pair.first)}[/]"
    stdout().print(f"\n{names}, {result.images:,} images of {escape(evaluation)}")
    rows = []
    for each in result.differences:
        is_loss = each.metric == "loss"
        values = [f"{value:.4f}" if is_loss else percent(value) for value in (each.first, each.second)]
        change, *ends = (
            f"{value:+.4f}" if is_loss else f"{100 * value:+.2f}" for value in (each.difference, *(each.interval or ()))
        )
        rows.append((each.metric, *values, change, " to ".join(ends) or "-"))
    print_table(("metric", pair.first, pair.second, "difference", "95 % interval"), rows, numbers={1, 2, 3, 4})
    stdout().print("differences are in percentage points, that of the loss in nats", style="dim")
    print_facts(
        {
            "changed sides": f"{result.only_second:,} only {pair.second} is right, {result.only_first:,} only {pair.first}",
            "same side": f"{result.both_right:,} both are right, {result.both_wrong:,} both are wrong",
            "McNemar's test": f"p = {result.p_value:.3g}"
            + (
                ", so the accuracies differ"
                if result.p_value < _SIGNIFICANT
                else ", so chance may explain the difference"
            ),
        }
    )


def _status(row: "RunRow") -> str:
    return f"{row.folds_finished} of {row.folds} folds" if row.folds and row.status != "finished" else row.status


def _accuracy(row: "RunRow") -> str:
    """Format the validation accuracy, of a cross-validation with its spread."""
    if row.val_accuracy is None or row.val_accuracy_spread is None:
        return _percent_or_none(row.val_accuracy)
    return f"{100 * row.val_accuracy:.2f} ± {percent(row.val_accuracy_spread)}"


def _percent_or_none(share: float | None) -> str:
    return "-" if share is None else percent(share)
