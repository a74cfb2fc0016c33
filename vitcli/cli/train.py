"""The command ``vit train``."""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from vitcli.cli.console import listening, print_json
from vitcli.cli.options import RunsCommand
from vitcli.cli.train_options import flags_in, settings_in, with_options
from vitcli.cli.train_report import show_dry_run, show_found_rate, show_result
from vitcli.cli.usage_errors import named_as_typed
from vitcli.core.errors import UsageError
from vitcli.core.importing import importing
from vitcli.core.launch import ALONE, launched_as

if TYPE_CHECKING:
    from vitcli.core.config import TrainConfig
    from vitcli.core.config_files import Settings
    from vitcli.training.groups import FoldsResult, SeedsResult
    from vitcli.training.result import TrainResult


class ResumableCommand(RunsCommand):
    """A command whose ``--resume`` may be given without a name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words; ``--resume`` before another option, or at the end, gets an empty name."""
        after = [*args[1:], "--"]
        words = zip(args, after, strict=True) if args else ()
        return super().parse_args(
            ctx, [f"{word}=" if word == "--resume" and rest.startswith("-") else word for word, rest in words]
        )


@with_options
def train(**given: Any) -> None:
    """Train a Vision Transformer and store it as a run.

    Without options, this trains on the data set downloaded last, else on the bundled digits, with the recipe that suits
    the data set. Settings come from the recipe, then --config, then options; later sources win.
    """
    from vitcli.core.config_files import configure, layers_of

    layers = layers_of(settings_in(given), config=given["config"], assignments=given["assignments"] or ())
    with named_as_typed(flags_in(given), layers, given["config"]):
        _start(layers, configure(*layers), given)  # reports wrong settings before torch is imported


def _start(layers: "Sequence[Settings]", settings: "TrainConfig", given: Mapping[str, Any]) -> None:
    """Train, or do what an option asks for instead."""
    resume, from_run, as_json = given["resume"], given["from_run"], given["as_json"]
    kinds = {"--resume": resume, "--from-run": from_run, "--dry-run": given["dry_run"], "--find-lr": given["find_lr"]}
    if len(asked := [flag for flag, value in kinds.items() if value not in {None, False}]) > 1:
        raise UsageError(f"{' and '.join(asked)} do not go together", hint="give one of them")
    if launched_as() == ALONE:  # otherwise the process that launched this one has checked
        _check_names(layers, resume=resume, from_run=from_run)
        if settings.run.devices > 1:
            from vitcli.engine.launching import check_devices, launch

            if not (given["dry_run"] or given["find_lr"]):
                raise typer.Exit(launch(sys.argv[1:], settings.run))
            check_devices(settings.run)  # one process is enough, but refuses what training would refuse
    if given["dry_run"]:
        _dry_run(layers, as_json=as_json)
    elif given["find_lr"]:
        _find_lr(layers, as_json=as_json)
    else:
        _train(layers, resume=resume, from_run=from_run, as_json=as_json)


def _check_names(layers: "Sequence[Settings]", *, resume: str | None, from_run: str | None) -> None:
    """Refuse unknown names and taken places at once, before the import of torch takes seconds."""
    if resume is not None:
        from vitcli.training.resumed_settings import check_resumed

        check_resumed(resume, layers)
    elif from_run is not None:
        from vitcli.training.resumed_settings import check_repeated

        check_repeated(from_run, layers)
    else:
        from vitcli.training.stated_settings import stated_settings

        stated_settings(layers)


def _train(layers: "Sequence[Settings]", *, resume: str | None, from_run: str | None, as_json: bool) -> None:
    workflow: Callable[..., TrainResult | FoldsResult | SeedsResult]
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


def _find_lr(layers: "Sequence[Settings]", *, as_json: bool) -> None:
    with importing():
        from vitcli.workflows.find_lr import find_lr
    with listening() as emit:
        found = find_lr(*layers, emit=emit)
    print_json(found) if as_json else show_found_rate(found, sys.argv[1:])


def _dry_run(layers: "Sequence[Settings]", *, as_json: bool) -> None:
    with importing():
        from vitcli.workflows.dry_run import dry_run
    with listening() as emit:
        report = dry_run(*layers, emit=emit)
    print_json(report) if as_json else show_dry_run(report)
    if not report.would_start:
        raise typer.Exit(1)
