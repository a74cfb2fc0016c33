"""The search for better settings: trials within a budget, and finalists against the default on fresh seeds."""

import shlex
import tomllib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vitcli.core.config_files import Settings, configure, settings_of
from vitcli.core.errors import Interrupted, counted, visible
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.files import ends, expanded, with_end, write_text
from vitcli.core.interrupts import stop_requests
from vitcli.core.provenance import command, now
from vitcli.core.run_search import next_name
from vitcli.core.runs import slug
from vitcli.core.search_limits import Limits
from vitcli.core.search_space import Dimension, settings_with
from vitcli.core.words import duration
from vitcli.training.finals import FinalRow, answer, best_finalist, is_better, recipe_text, train_command
from vitcli.training.resumed_settings import in_another_folder, output_dir_of
from vitcli.training.search import Search
from vitcli.training.settings import settle_again
from vitcli.training.study import (
    Study,
    check_new,
    check_output,
    check_resumed_search,
    continue_command,
    require_optuna,
)
from vitcli.training.study_file import StudyFile
from vitcli.training.trials import TrialRow
from vitcli.training.tune_plan import TunePlan, begin_search, tell_plan


@dataclass(frozen=True, kw_only=True, slots=True)
class TuneResult:
    """The result of a search for better settings."""

    name: str
    """Name of the study."""
    path: Path
    """The folder of the study."""
    dataset: str
    recipe: str
    """Name of the recipe of the default settings."""
    trials: tuple[TrialRow, ...]
    """Every trial that has ended."""
    finals: tuple[FinalRow, ...]
    """The default, then the finalists."""
    answer: str
    """The answer in words."""
    is_better: bool
    """True if the best finalist is better than the default by more than chance."""
    recipe_file: Path | None
    """The recipe of the winner; None: no finalist is better than the default, so none was written."""
    train_command: str | None
    """The command that trains on these data with this recipe; None: none was written."""
    seconds: float
    """Time that the search has taken."""

    def __repr__(self) -> str:
        return visible(f"<TuneResult {self.path}: {counted(len(self.trials), 'trial')}, {self.answer}>")


def tune(
    *layers: Settings,
    space: Sequence[Dimension] = (),
    limits: Limits | None = None,
    output: Path | None = None,
    emit: Emit = ignore,
) -> TuneResult:
    """Search for better settings: try some within a budget, then compare the best ones with the default on fresh seeds.

    Trials are scored on validation images; test images are never looked at.

    Args:
        layers: settings as for ``train``; they are the default that is to be improved. ``run.name`` is the name of the
            study, and all trials have the seed ``run.seed``.
        space: the settings to vary; empty: the usual ones that the default uses.
        limits: the budget.
        output: the file of the recipe; None: ``recipe.toml`` in the folder of the study.
        emit: receives the progress.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: as ``train``; or the data have no validation images, or
            the budget is too small.
        TrainingError: training fails with the default settings, or too often.
        Interrupted: the search was stopped; ``resume_tuning`` continues it.
    """
    require_optuna()
    check_output(output)
    check_new(configure(*layers).run)
    begun = begin_search(layers, space, limits or Limits(), emit)
    plan, config, asked = begun.plan, begun.config, begun.limits
    tell_plan(plan, emit)
    output_dir = expanded(config.run.output_dir)
    path = output_dir / (config.run.name or next_name(output_dir, f"{slug(plan.dataset)}-tune"))
    file = StudyFile(
        started=now(),
        command=command(),
        dataset=config.data.name,
        fingerprint=begun.fingerprint,
        val_is_fixed=begun.val_is_fixed,
        settings=settings_of(in_another_folder(config, output_dir.resolve(), path)),
        space=[f"{each.setting}={each.text}" for each in begun.space],
        minutes=asked.minutes,
        trials=asked.trials,
        finalists=asked.finalists,
        seeds=asked.seeds,
        output=str(output.resolve()) if output else "",
        trial_seconds=plan.trial_seconds,
    )
    study = Study.create(path, file, default=begun.default)
    emit(Note(text=f"study: {path} on {plan.device}; Ctrl-C loses nothing, `{continue_command(path)}` continues"))
    with study.alone():
        return _search(study, emit, may_try=True)


def resume_tuning(
    name: str = "",
    *layers: Settings,
    minutes: float | None = None,
    trials: int | None = None,
    emit: Emit = ignore,
) -> TuneResult:
    """Continue a search that was stopped; a finished one too, if its budget is raised.

    Args:
        name: the name or the path of the study; empty: the newest unfinished one.
        layers: only ``run.output_dir`` may be given, the folder of all runs.
        minutes: another budget, which the time before counts towards; None: as before.
        trials: another number of trials at most, which those before count towards; None: as before.
        emit: receives the progress.

    Raises:
        RunError: there is no such study, or it is broken, or another process works on it.
        The errors of ``tune``.
    """
    require_optuna()
    found = Study.find(name, output_dir_of(layers))
    check_resumed_search(layers, {})
    with found.alone():  # until then, another process may change the study
        study = Study.open(found.path)
        stored = study.stored
        if minutes is not None or trials is not None:
            stored.finals = None
        may_try = stored.finals is None and (stored.status != "finished" or minutes is not None or trials is not None)
        stored.minutes = stored.minutes if minutes is None else minutes
        stored.trials = stored.trials if trials is None else trials
        ended, used = counted(len(study.rows), "trial has"), duration(stored.seconds)
        emit(Note(text=f"study: {study.path}; {ended} ended, {used} of {stored.limits.minutes:g} min are used"))
        return _search(study, emit, may_try=may_try)


def plan_tuning(
    *layers: Settings, space: Sequence[Dimension] = (), limits: Limits | None = None, emit: Emit = ignore
) -> TunePlan:
    """Plan a search: the space, the time of a trial, and how many fit; nothing is trained.

    Args:
        layers, space, limits, emit: as for ``tune``.

    Raises:
        The errors of ``tune`` before it begins.
    """
    return begin_search(layers, space, limits or Limits(), emit).plan


def _search(study: Study, emit: Emit, *, may_try: bool) -> TuneResult:
    """Try settings if that is allowed, train the finals, and answer; write a recipe of a winner.

    The study is locked.
    """
    again = f"`{continue_command(study.path)}` continues"
    if study.stored.val_is_fixed:
        reason = "the data have one validation split, so the finals are scored on the images that chose the finalists"
        emit(Note(text=f"{reason}; `vit eval` scores them on test images"))
    with study.recorded(), stop_requests(again) as stop:
        search = Search(study, emit, stop)
        try:
            if may_try:
                search.try_settings()
            finals = search.run_finals()
        except Interrupted as error:
            error.hint = again
            raise
        finally:
            study.stored.seconds = search.budget.seconds
        best, usual = best_finalist(finals), Path(study.stored.output or study.path / "recipe.toml")
        file = None
        if best and is_better(best):
            layer = settings_with(best.settings, search.config.augment)
            config, _ = settle_again(search.config, (layer,), ignore)
            text_of = partial(recipe_text, config=config, rows=finals, facts=_facts(study), seeds=search.seeds)
            file = _written(text_of, usual, study.path / "recipe.toml", emit)
        elif usual.exists():
            emit(Warned(text=f"{usual} is not the answer of this search: it is from an earlier one, or yours"))
    return TuneResult(
        name=study.name,
        path=study.path,
        dataset=study.stored.dataset,
        recipe=search.config.run.recipe,
        trials=tuple(study.rows),
        finals=tuple(finals),
        answer=answer(best),
        is_better=is_better(best),
        recipe_file=file,
        train_command=train_command(search.config.data, str(file)) if file else None,
        seconds=study.stored.seconds,
    )


def _written(text_of: Callable[[str], str], file: Path, otherwise: Path, emit: Emit) -> Path:
    """Write a recipe, and return its file; no file with other settings is replaced.

    Args:
        text_of: returns the recipe for the name of a file.
        file: where to write it.
        otherwise: where to write it if that fails.
        emit: is told of another place.
    """
    try:
        written = _written_beside(text_of, file)
    except OSError as error:
        written = _written_beside(text_of, otherwise)
        emit(Warned(text=f"the recipe is in {written}, because {file} cannot be written: {error.strerror}"))
        return written
    if written != file:
        why = f"{file} has other settings, of an earlier answer or yours"
        emit(Warned(text=f"the recipe is in {written}, because {why}"))
    return written


def _written_beside(text_of: Callable[[str], str], file: Path) -> Path:
    """Return a file with the settings of a recipe: one that is there, or a new one.

    Of ``file``, ``file-2`` and so on, it is the first that has these settings or is free.
    """

    def is_recipe(path: Path) -> bool:
        return _settings_in(path.read_text(encoding="utf-8", errors="replace")) == _settings_in(text_of(path.name))

    path = next(path for end in ends() if not (path := with_end(file, end)).exists() or is_recipe(path))
    if not path.exists():
        write_text(path, text_of(path.name))
    return path


def _settings_in(recipe: str) -> Settings | None:
    """Return the settings in the text of a recipe; None: it is none."""
    with suppress(ValueError):
        return {section: table for section, table in tomllib.loads(recipe).items() if section != "about"}
    return None


def _facts(study: Study) -> list[str]:
    """Say how the settings were found, for the recipe."""
    rows = study.rows
    states = [row.state for row in rows]
    return [
        f"command: {shlex.join(study.stored.command)}",
        f"study: {study.path.resolve()}",
        f"trials: {len(rows)} with seed {study.config.run.seed}; {states.count('pruned')} were pruned, {states.count('failed')} failed",
        f"time: {duration(study.stored.seconds)}",
        "searched: " + "; ".join(study.stored.space),
    ]
