"""The command ``vit runs``, which lists the runs, and its subcommands."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from vitcli.cli.console import listening, print_json, stderr, stdout
from vitcli.cli.examples import epilog
from vitcli.cli.options import EXPERIMENTS, JsonOption, OutputDirOption, RunsCommand, RunsGroup
from vitcli.cli.runs_report import SHOWN, show_comparison, show_report, show_runs
from vitcli.cli.usage_errors import with_plain_values
from vitcli.core.errors import RunError, UsageError, some
from vitcli.core.files import bytes_in_words
from vitcli.core.words import percent

group = typer.Typer(
    name="runs",
    cls=RunsGroup,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)

RunArgument = Annotated[
    str,
    typer.Argument(
        help="The name or the path of a run, or of a group (folds or seeds).", show_default=False, metavar="RUN"
    ),
]


@group.callback(epilog=epilog("runs"))
@with_plain_values
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
    from vitcli.training.pretraining import pretrainings_in
    from vitcli.workflows.runs import list_runs, value_of

    with listening() as emit:
        rows = list_runs(output_dir, sort=sort, filters=filters or (), emit=emit)
    if as_json:
        print_json(rows)
        return
    if not rows:
        hint = "leave out --filter" if filters else "`vit train` makes one"
        if not filters and (studies := sorted(output_dir.glob("*/study.json"))):
            folder = shlex.quote(str(studies[-1].parent))
            hint = f"`vit runs --output-dir {folder}` lists those of a search"
        stderr().print(escape(f"no {'such ' if filters else ''}runs in {output_dir}; {hint}"))
    else:
        values = [value_of(row, sort) if sort and sort not in SHOWN else None for row in rows]
        show_runs(rows, sort, values)
    if pretrainings := [] if filters else pretrainings_in(output_dir):
        stderr().print(escape("\nweights without classes, of `vit pretrain`, for `vit train --init-from NAME`:"))
        for line in pretrainings:
            stderr().print(escape(f"  {line}"))


@group.command(epilog=epilog("runs show"), cls=RunsCommand)
@with_plain_values
def show(
    run: Annotated[
        str | None,
        typer.Argument(
            help="The name or the path of a run, or of a group (folds or seeds); best: the best one on the data of the newest.",
            show_default="the newest run",
            metavar="RUN",
        ),
    ] = None,
    output_dir: OutputDirOption = EXPERIMENTS,
    as_json: JsonOption = False,
) -> None:
    """Show one run: what was trained, how it ended, its evaluations and files, and how to repeat it."""
    from vitcli.workflows.show_run import show_run

    with listening() as emit:
        report = show_run(run, output_dir, emit)
    print_json(report) if as_json else show_report(report)


@group.command(epilog=epilog("runs best"))
@with_plain_values
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


@group.command(epilog=epilog("runs compare"))
@with_plain_values
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Two or more runs or groups; best: the best one on the data of the newest.",
            show_default=False,
            metavar="RUN",
        ),
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
    print_json(result) if as_json else show_comparison(result)


@group.command(epilog=epilog("runs tag"))
@with_plain_values
def tag(
    run: RunArgument,
    tags: Annotated[
        list[str] | None, typer.Argument(help="Tags to add; none: print the tags.", metavar="TAG", show_default=False)
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Remove these tags.")] = False,
    output_dir: OutputDirOption = EXPERIMENTS,
    as_json: JsonOption = False,
) -> None:
    """Add tags to a run, remove some, or print them; `vit runs --filter tag=NAME` lists the runs with one."""
    from vitcli.workflows.edit_runs import tag as workflow

    if remove and not tags:
        raise UsageError("--remove needs the tags to remove", hint="vit runs tag RUN TAG --remove")
    found = workflow(run, tags or (), remove=remove, output_dir=output_dir)
    if as_json:
        print_json(found)
        return
    for each in found.tags:
        stdout().print(escape(each), soft_wrap=True)
    if not found.tags:
        stderr().print(escape(f"{run} has no tags"))


@group.command(epilog=epilog("runs rename"))
@with_plain_values
def rename(
    run: RunArgument,
    name: Annotated[str, typer.Argument(help="The new name.", show_default=False, metavar="NAME")],
    output_dir: OutputDirOption = EXPERIMENTS,
    as_json: JsonOption = False,
) -> None:
    """Rename a run or a group, also in the settings of runs that start or learn from it."""
    from vitcli.workflows.edit_runs import rename as workflow

    with listening() as emit:
        found = workflow(run, name, output_dir=output_dir, emit=emit)
    print_json(found) if as_json else stdout().print(escape(str(found.path)), soft_wrap=True)


@group.command(epilog=epilog("runs delete"))
@with_plain_values
def delete(
    runs: Annotated[list[str], typer.Argument(help="Runs or groups.", show_default=False, metavar="RUN")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output_dir: OutputDirOption = EXPERIMENTS,
    as_json: JsonOption = False,
) -> None:
    """Delete runs with all of their files, after asking; a run that is being trained is refused."""
    from vitcli.workflows.edit_runs import check_deletable
    from vitcli.workflows.edit_runs import delete as workflow

    found = check_deletable(runs, output_dir)
    for each in found:
        used = f"; {some(each.used_by)} started or learned from it" if each.used_by else ""
        stderr().print(escape(f"{each.folder}: {bytes_in_words(each.size)}{used}"))
    what = f"{len(found)} runs" if len(found) > 1 else found[0].name
    if not yes:
        if not sys.stdin.isatty():
            raise RunError(
                f"{what} is not deleted, because there is no terminal to ask in", hint="--yes deletes without asking"
            )
        if not _confirmed(f"delete {what} for good?"):
            raise RunError("nothing was deleted", hint="--yes deletes without asking")
    deleted = workflow(found)
    print_json(deleted) if as_json else stderr().print(escape(f"deleted: {what}"))


def _confirmed(question: str) -> bool:
    """Ask on stderr; the end of the input is a no."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False
