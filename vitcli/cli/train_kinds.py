"""The kinds of training that ``vit train`` begins: anew, as an earlier run, on where one ended, in folds; or a dry run."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from vitcli.cli.console import listening, print_json
from vitcli.cli.found_rate import show_found_rate
from vitcli.cli.train_report import show_preflight, show_result
from vitcli.core.errors import UsageError

if TYPE_CHECKING:
    from vitcli.core.config import TrainConfig
    from vitcli.core.config_files import Settings
    from vitcli.workflows.folds import FoldsResult
    from vitcli.workflows.train_result import TrainResult


def carry_out(
    layers: "Sequence[Settings]",
    settings: "TrainConfig",
    *,
    resume: str | None,
    from_run: str | None,
    dry_run: bool,
    find_lr: bool,
    as_json: bool,
) -> None:
    """Train, and show what came of it.

    Args:
        layers: what was typed.
        settings: what they say without a recipe.
        resume: a run to go on with.
        from_run: a run to train anew.
        dry_run: look at what training would meet, and train nothing.
        find_lr: look for the learning rate, and train nothing.
        as_json: how it is shown.

    Raises:
        UsageError: these exclude each other.
    """
    kinds = {
        "--resume": resume is not None,
        "--from-run": from_run is not None,
        "--dry-run": dry_run,
        "--find-lr": find_lr,
    }
    if len(asked := [flag for flag, is_on in kinds.items() if is_on]) > 1:
        raise UsageError(f"{' and '.join(asked)} do not go together", hint="give one of them")
    if dry_run:
        _dry_run(layers, as_json=as_json)
        return
    if find_lr:
        _find_lr(layers, as_json=as_json)
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


def _find_lr(layers: "Sequence[Settings]", *, as_json: bool) -> None:
    with listening() as emit:
        from vitcli.workflows.find_lr import find_lr

        found = find_lr(*layers, emit=emit)
    print_json(found) if as_json else show_found_rate(found, sys.argv[1:])


def _dry_run(layers: "Sequence[Settings]", *, as_json: bool) -> None:
    with listening() as emit:
        from vitcli.workflows.preflight import preflight

        report = preflight(*layers, emit=emit)
    print_json(report) if as_json else show_preflight(report)
    if not report.would_start:
        raise typer.Exit(1)
