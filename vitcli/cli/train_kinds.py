"""The kinds of training that ``vit train`` begins: anew, as an earlier run, on where one ended, in folds; or a dry run."""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import typer

from vitcli.cli.console import listening, print_json
from vitcli.cli.found_rate import show_found_rate
from vitcli.cli.train_report import show_preflight, show_result
from vitcli.core.errors import UsageError
from vitcli.core.importing import importing
from vitcli.core.launch import ALONE, launched_as

if TYPE_CHECKING:
    from vitcli.core.config import TrainConfig
    from vitcli.core.config_files import Settings
    from vitcli.training.folds import FoldsResult
    from vitcli.training.result import TrainResult


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
    if launched_as() == ALONE:  # else it was checked by what started these processes
        _check_names(layers, resume=resume, from_run=from_run)
        if settings.run.devices > 1 and not (dry_run or find_lr):
            from vitcli.engine.launching import launch

            raise typer.Exit(launch(sys.argv[1:], settings.run))
    if dry_run:
        _dry_run(layers, as_json=as_json)
        return
    if find_lr:
        _find_lr(layers, as_json=as_json)
        return
    workflow: Callable[..., TrainResult | FoldsResult]
    with importing():
        if resume is not None:
            from vitcli.workflows.resume import resume as resume_workflow

            workflow = partial(resume_workflow, resume)
        elif from_run is not None:
            from vitcli.workflows.from_run import from_run as from_run_workflow

            workflow = partial(from_run_workflow, from_run)
        else:
            from vitcli.workflows.train import train as workflow
    with listening() as emit:
        result = workflow(*layers, emit=emit)
    print_json(result) if as_json else show_result(result)


def _check_names(layers: "Sequence[Settings]", *, resume: str | None, from_run: str | None) -> None:
    """Refuse what a workflow would refuse first of all, before torch is imported for seconds."""
    if resume is not None:
        from vitcli.training.resumed_settings import check_resumed

        check_resumed(resume, layers)
    elif from_run is not None:
        from vitcli.training.resumed_settings import check_repeated

        check_repeated(from_run, layers)
    else:
        from vitcli.training.stated_settings import stated_settings

        stated_settings(layers)


def _find_lr(layers: "Sequence[Settings]", *, as_json: bool) -> None:
    with importing():
        from vitcli.workflows.find_lr import find_lr
    with listening() as emit:
        found = find_lr(*layers, emit=emit)
    print_json(found) if as_json else show_found_rate(found, sys.argv[1:])


def _dry_run(layers: "Sequence[Settings]", *, as_json: bool) -> None:
    with importing():
        from vitcli.workflows.preflight import preflight
    with listening() as emit:
        report = preflight(*layers, emit=emit)
    print_json(report) if as_json else show_preflight(report)
    if not report.would_start:
        raise typer.Exit(1)
