"""The command ``vit tune``."""

import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from vitcli.cli.console import listening, print_facts, print_json, print_table, stderr, stdout
from vitcli.cli.train_options import ROWS, Row, flags_in, settings_in, with_options
from vitcli.cli.usage_errors import named_as_typed
from vitcli.cli.words import plain_value
from vitcli.core.errors import counted
from vitcli.core.importing import importing
from vitcli.core.words import duration, percent, percent_or_none

if TYPE_CHECKING:
    from vitcli.training.tune_plan import TunePlan
    from vitcli.workflows.tune import TuneResult

_DATA = (
    *("dataset", "labels", "image_column", "label_column", "label_map"),
    *("val_fraction", "test_fraction", "on_bad_image"),
)
_DEFAULT = ("recipe", "config", "assignments", "model", "image_size", "init_from", "epochs")
_WHERE = ("seed", "device", "amp", "output_dir", "data_dir", "offline", "as_json")
"""Options of ``vit train`` that this command has too: of the data, of the default settings, and of the machine."""
_OF_TRAIN = (*_DATA, *_DEFAULT, *_WHERE, "name")
_SEARCH = "Search"


def _option(*flags: str, words: str, default: str = "", metavar: str | None = None) -> Any:
    return typer.Option(*flags, help=words, rich_help_panel=_SEARCH, show_default=default or False, metavar=metavar)


_OWN = (
    Row(
        "",
        Annotated[
            float | None,
            _option("--minutes", words="The budget; the final trainings are included.", default="60"),
        ],
        name="minutes",
    ),
    Row(
        "",
        Annotated[
            int | None,
            _option(
                "--trials", words="The most trials; fewer if the time is over.", default="as many as the budget holds"
            ),
        ],
        name="trials",
    ),
    Row(
        "",
        Annotated[
            int | None,
            _option(
                "--finalists",
                words="The best trials, which are compared with the default.",
                default="2, if the budget holds them",
            ),
        ],
        name="finalists",
    ),
    Row(
        "",
        Annotated[
            int | None,
            _option(
                "--seeds",
                words="Fresh seeds that finalists and default are trained with.",
                default="3, if the budget holds them",
            ),
        ],
        name="seeds",
    ),
    Row(
        "",
        Annotated[
            list[str] | None,
            _option(
                "--search",
                words="A setting to search, and its values: optim.lr=1e-4..1e-1:log, or model.depth=2,4,6.",
                metavar="KEY=VALUES",
            ),
        ],
        name="search",
    ),
    Row(
        "",
        Annotated[
            Path | None,
            _option(
                "--space", words="A TOML file of settings to search.", default="the usual ones that the recipe uses"
            ),
        ],
        name="space",
    ),
    Row(
        "",
        Annotated[
            Path | None,
            _option("--output", "-o", words="File of the recipe of a winner.", default="recipe.toml in the study"),
        ],
        name="output",
    ),
    Row(
        "run.name",
        Annotated[str | None, _option("--name", "-n", words="The study's name.", default="generated")],
        name="name",
    ),
    Row(
        "",
        Annotated[
            str | None,
            _option("--resume", words="Continue this search; without a name, the newest unfinished one."),
        ],
        name="resume",
    ),
    Row(
        "",
        Annotated[
            bool, _option("--dry-run", words="Show what would be searched, and how long it takes; train nothing.")
        ],
        name="dry_run",
        otherwise=False,
    ),
)
_LIMITS = ("minutes", "trials", "finalists", "seeds")
_BEST = 20
"""Trials in the table."""


def _shared(names: tuple[str, ...]) -> list[Row]:
    return [row for row in ROWS if row.parameter in names]


@partial(with_options, rows=[*_OWN, *_shared(_DATA), *_shared(_DEFAULT), *_shared(_WHERE)])
def tune(**given: Any) -> None:
    """Search for better settings within a budget, and tell whether they are better than the default.

    Each trial trains with other settings, and ends early if it is worse than others on the validation images. The best
    trials and the default settings are then trained with fresh seeds and compared. Test images are never used. If a
    trial is better, its settings are written as a recipe.
    """
    from vitcli.training.study import require_optuna

    require_optuna()
    from vitcli.core.config_files import configure, layers_of
    from vitcli.core.search_limits import Limits
    from vitcli.core.search_space import searched
    from vitcli.training.resumed_settings import output_dir_of
    from vitcli.training.stated_settings import stated_settings
    from vitcli.training.study import Study, check_new, check_output, check_resumed_search

    # Check everything that does not depend on the data before torch is imported
    chosen = {row.parameter: None for row in ROWS} | {name: given[name] for name in _OF_TRAIN}
    layers = layers_of(settings_in(chosen), config=given["config"], assignments=given["assignments"] or ())
    workflow: Callable[..., TunePlan | TuneResult]
    with named_as_typed(flags_in(chosen), layers, given["config"]):
        asked = configure(*layers).run
        limits: dict[str, Any] = {name: given[name] for name in _LIMITS if given[name] is not None}
        if given["resume"] is not None:
            others = ("finalists", "seeds", "search", "space", "output", "dry_run")
            Study.find(given["resume"], output_dir_of(layers))
            check_resumed_search(layers, {name.replace("_", "-"): given[name] for name in others})
            with importing():
                from vitcli.workflows.tune import resume_tuning
            workflow = partial(resume_tuning, given["resume"], **limits)
        else:
            plan: dict[str, Any] = {
                "space": searched(given["space"], given["search"] or ()),
                "limits": Limits(**limits),
            }
            check_output(given["output"])
            check_new(asked)
            stated_settings(layers)
            with importing():
                from vitcli.workflows.tune import plan_tuning
                from vitcli.workflows.tune import tune as tune_workflow
            workflow = (
                partial(plan_tuning, **plan)
                if given["dry_run"]
                else partial(tune_workflow, output=given["output"], **plan)
            )

        # Search
        with listening() as emit:
            result = workflow(*layers, emit=emit)
    _show(result, as_json=given["as_json"])


def _show(result: "TunePlan | TuneResult", *, as_json: bool) -> None:
    from vitcli.training.tune_plan import TunePlan

    if as_json:
        print_json(result)
    elif isinstance(result, TunePlan):
        _show_plan(result)
    else:
        _show_result(result)


def _show_plan(plan: "TunePlan") -> None:
    """Show what would be searched, and the time."""
    fit = "not known before the first trial" if plan.trials is None else f"about {counted(plan.trials, 'trial')}"
    print_facts(
        {
            "data": plan.dataset,
            "model": f"{plan.model}, recipe {plan.recipe}",
            **{each.setting: each.words for each in plan.space},
            "first trial": "the default settings" if plan.has_default else "in the space; the default is outside of it",
            "a trial": f"{counted(plan.epochs, 'epoch')}, "
            + ("time not known" if plan.trial_seconds is None else f"about {duration(plan.trial_seconds)}")
            + f" on {plan.device}",
            "finals": f"{counted(plan.finals, 'training')}: the default and {counted(plan.finalists, 'finalist')},"
            f" {counted(plan.seeds, 'seed')} each",
            f"{plan.minutes:g} min hold": fit + (f"; {plan.most_trials} at most" if plan.most_trials else ""),
        }
    )


def _show_result(result: "TuneResult") -> None:
    """Show the best trials, the finals, the answer, and the next commands."""
    settings = list(dict.fromkeys(name for row in result.trials for name in row.settings))
    rows = sorted(result.trials, key=lambda row: (row.state != "finished", -(row.val_accuracy or 0.0)))
    cells = [
        (
            f"trial-{row.number:04d}",
            percent_or_none(row.val_accuracy),
            str(row.epochs),
            *(plain_value(row.settings.get(name, "-")) for name in settings),
            "default" if row.is_default else "" if row.state == "finished" else row.state,
        )
        for row in rows[:_BEST]
    ]
    headings = ("trial", "accuracy", "epochs", *(name.partition(".")[2] for name in settings), "note")
    title = f"the best {_BEST} of {len(rows):,} trials" if len(rows) > _BEST else ""
    print_table(headings, cells, numbers=range(1, len(headings) - 1), title=title)
    states = [row.state for row in rows]
    trials = f"{len(rows):,}, {states.count('pruned'):,} pruned, {states.count('failed'):,} failed"
    finals = {
        f"{each.name}, {counted(len(each.val_accuracies), 'seed')}": percent(each.val_accuracy)
        + (
            ""
            if each.interval is None
            else f", {_points(each.difference)} ({_points(each.interval[0])} to {_points(each.interval[1])}) points"
        )
        for each in result.finals
    }
    recipe = {"recipe": str(result.recipe_file)} if result.recipe_file else {}
    stdout().print()
    print_facts(
        {
            "trials": trials,
            **finals,
            "answer": result.answer,
            **recipe,
            "study": str(result.path),
            "time": duration(result.seconds),
        }
    )
    if result.train_command:
        winner = max(result.finals, key=lambda row: row.val_accuracy)
        stderr().print(
            f"\nnext: [bold]{escape(result.train_command)}[/]  trains with these settings"
            f"\n      [bold]{escape(f'vit eval --model {shlex.quote(str(winner.path))}')}[/]  evaluates its final runs",
            soft_wrap=True,  # the terminal breaks the lines, so that they are copied whole
        )


def _points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.1f}"
