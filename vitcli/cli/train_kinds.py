"""The kinds of training that ``vit train`` begins: anew, as an earlier run, on where one ended, in folds; or a dry run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from vitcli.cli.console import listening, print_json
from vitcli.cli.train_report import show_preflight, show_result
from vitcli.core.errors import UsageError

if TYPE_CHECKING:
    from vitcli.core.config import TrainConfig
    from vitcli.core.config_files import Settings
    from vitcli.workflows.folds import FoldsResult
    from vitcli.workflows.train import TrainResult


def carry_out(
    layers: "Sequence[Settings]",
    settings: "TrainConfig",
    *,
    resume: str | None,
    from_run: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Train, and show what came of it.

    Args:
        layers: what was typed.
        settings: what they say without a recipe.
        resume: a run to go on with.
        from_run: a run to train anew.
        dry_run: look at what training would meet, and train nothing.
        as_json: how it is shown.

    Raises:
        UsageError: these exclude each other.
    """
    if dry_run and resume is not None:
        raise UsageError("--dry-run looks at what --resume has begun already", hint="leave one out")
    if from_run is not None and (dry_run or resume is not None):
        other = "--dry-run" if dry_run else "--resume"
        raise UsageError(f"--from-run begins a new run, and {other} begins none", hint="leave one out")
    if dry_run:
        _dry_run(layers, as_json=as_json)
        return
    result: TrainResult | FoldsResult
    with listening() as emit:
        if resume is not None:
            from vitcli.workflows.resume import resume as resume_workflow

            result = resume_workflow(resume, *layers, emit=emit)
        elif from_run is not None:
            from vitcli.workflows.from_run import from_run as from_run_workflow

            result = from_run_workflow(from_run, *layers, emit=emit)
        elif settings.data.folds and not settings.data.fold:
            from vitcli.workflows.folds import train_folds

            result = train_folds(*layers, emit=emit)
        else:
            from vitcli.workflows.train import train

            result = train(*layers, emit=emit)
    print_json(result) if as_json else show_result(result)


def _dry_run(layers: "Sequence[Settings]", *, as_json: bool) -> None:
    with listening() as emit:
        from vitcli.workflows.preflight import preflight

        report = preflight(*layers, emit=emit)
    print_json(report) if as_json else show_preflight(report)
    if not report.would_start:
        raise typer.Exit(1)
