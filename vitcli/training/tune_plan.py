"""The plan of a search for settings: what is searched, how long a trial takes, and how many the budget holds."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings
from vitcli.core.errors import TrainingError, UsageError, counted, visible
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.launch import launched_as
from vitcli.core.search_limits import Finals, Limits, fitting
from vitcli.core.search_space import Dimension, combinations, default_values
from vitcli.core.usual_space import settings_in, usual_space
from vitcli.core.words import duration
from vitcli.engine.device import describe
from vitcli.engine.distributed import Processes
from vitcli.training.assembly import assemble
from vitcli.training.duration import estimated_seconds
from vitcli.training.groups import refuse_group
from vitcli.training.settings import settle

LEAST_TRIALS = 2
"""Trials that a budget has to hold: the default, and another one."""
_FEW_IMAGES = 100
"""With fewer validation images, one image is more than a point."""
_AROUND = 0.5
"""Seconds that a run takes besides its steps: to be assembled, saved and drawn."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchedSetting:
    """One setting that a search varies."""

    setting: str
    """Its name, ``SECTION.KEY``; ``augment.strength`` is a factor on all strengths of augmentation."""
    values: str
    """Its values, as ``--search`` takes them."""
    words: str
    """Its values in words."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TunePlan:
    """The plan of a search, as ``vit tune --dry-run`` prints it."""

    dataset: str
    model: str
    recipe: str
    device: str
    space: tuple[SearchedSetting, ...]
    """The searched settings."""
    has_default: bool
    """True if the default settings are in the space, so that the first trial has them."""
    epochs: int
    """Epochs of a trial."""
    minutes: float
    """The budget."""
    trial_seconds: float | None
    """Estimated time of a trial; None: not known before the first one."""
    trials: int | None
    """Trials that fit into the budget besides the final trainings, if none is pruned; None: not known yet."""
    most_trials: int
    """The most trials, as asked for; 0: as many as fit."""
    finals: int
    """Number of final trainings: the finalists and the default, each with every fresh seed."""
    finalists: int
    """Number of finalists; fewer than usual if the budget does not hold more."""
    seeds: int
    """Number of fresh seeds; fewer than usual if the budget does not hold more."""

    def __repr__(self) -> str:
        fit = "" if self.trials is None else f", about {counted(self.trials, 'trial')} in {self.minutes:g} min"
        return visible(f"<TunePlan for {self.dataset}: {counted(len(self.space), 'setting')}{fit}>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """Everything that is decided before the first trial."""

    config: TrainConfig
    space: Sequence[Dimension]
    default: dict[str, Any] | None
    plan: TunePlan
    limits: Limits
    fingerprint: str
    val_is_fixed: bool


def begin_search(layers: Sequence[Settings], space: Sequence[Dimension], limits: Limits, emit: Emit) -> Beginning:
    """Settle the default settings, choose the space, and estimate the time of a trial."""
    refuse_group(launched_as())
    config, dataset, _ = settle(tuple(layers), emit)
    _check(config)
    facts = dataset.facts
    training = assemble(config, dataset, processes=Processes(), emit=emit)
    validation, is_fixed = len(training.data.val_members), "val" in facts.counts
    if validation < _FEW_IMAGES:
        few = f"{counted(validation, 'validation image')} are few to choose settings by: one of them is {100 / validation:.1f} points"
        emit(Warned(text=few if is_fixed else f"{few}; a larger --val-fraction holds out more"))
    space = space or usual_space(config, given=settings_in(layers), images=len(training.data.members))
    if not space:
        raise UsageError(
            "every setting that is usually searched was given, so nothing is left to search",
            hint="leave some out, or say what to search: --search optim.lr=1e-4..1e-1:log",
        )
    if every := len(combinations(space)):
        emit(Note(text=f"the space has {every} combinations, each of which is tried once at most"))
        limits = replace(limits, trials=min(limits.trials or every, every))
    default = default_values(space, config, asdict(training.model.config))
    steps = estimated_seconds(training)
    seconds = None if steps is None else steps + _AROUND
    finals = planned_finals(limits, seconds, has_default=default is not None)
    plan = TunePlan(
        dataset=facts.name,
        model=training.model.config.name,
        recipe=config.run.recipe,
        device=describe(training.computing.device),
        space=tuple(SearchedSetting(setting=each.setting, values=each.text, words=each.words) for each in space),
        has_default=default is not None,
        epochs=config.optim.epochs,
        minutes=limits.minutes,
        trial_seconds=seconds,
        trials=None if seconds is None else max(0, int(60 * limits.minutes / seconds) - finals.trainings),
        most_trials=limits.trials,
        finals=finals.trainings,
        finalists=finals.finalists,
        seeds=finals.seeds,
    )
    return Beginning(
        config=config,
        space=space,
        default=default,
        plan=plan,
        limits=limits,
        fingerprint=facts.fingerprint,
        val_is_fixed=is_fixed,
    )


def _check(config: TrainConfig) -> None:
    """Refuse settings that a search cannot have."""
    if config.data.val_split == "test":
        raise UsageError(
            f"recipe {config.run.recipe} has no validation images but the test images, which must choose no setting",
            hint="--set data.val_split=auto holds out validation images, or choose another recipe",
        )
    if config.data.folds or config.run.seeds:
        raise UsageError(
            "a search trains one run for each trial, not folds or seeds", hint="leave out data.folds and run.seeds"
        )
    if config.run.overwrite:
        raise UsageError("run.overwrite = True, but a study is never replaced", hint="choose another name: --name NAME")
    if config.run.devices > 1:
        raise UsageError(f"run.devices = {config.run.devices}: a search uses one device", hint="leave it out")


def planned_finals(limits: Limits, trial_seconds: float | None, *, has_default: bool) -> Finals:
    """Choose the finals that the budget holds besides the fewest trials, as far as the time of a trial is known."""
    choices = limits.finals(has_default=has_default)
    if trial_seconds is None:
        return choices[0]

    def seconds(finals: Finals, trials: int = 0) -> float:
        trials = max(trials, LEAST_TRIALS, finals.finalists + has_default)
        return (trials + finals.trainings) * trial_seconds

    chosen = fitting(choices, lambda each: seconds(each) <= 60 * limits.minutes)
    if chosen:
        return chosen
    least, usual = choices[-1], choices[0]
    enough, more = (math.ceil(each / 60) for each in (seconds(least), seconds(usual, trials=10)))
    raise TrainingError(
        f"{limits.minutes:g} min are too few: a trial takes about {duration(trial_seconds)}, and there are {least.words}",
        hint=f"--minutes {enough} holds these, --minutes {more} holds ten trials and {usual.trainings} final trainings;"
        " fewer --epochs need less time",
    )


def tell_plan(plan: TunePlan, emit: Emit) -> None:
    """Say what is searched, how long a trial takes, and how many fit."""
    emit(Note(text="search: " + "; ".join(f"{each.setting} {each.words}" for each in plan.space)))
    if not plan.has_default:
        emit(Note(text="the default settings are outside of this space, so only the finals have them"))
    if plan.trials is None or plan.trial_seconds is None:
        emit(Note(text="time: the first trial will show how long one takes"))
        return
    trial = f"about {duration(plan.trial_seconds)} for a trial of {counted(plan.epochs, 'epoch')}"
    most = f", of which {plan.most_trials} are used" if 0 < plan.most_trials < plan.trials else ""
    fit = f"the budget of {plan.minutes:g} min holds about {counted(plan.trials, 'trial')}{most}"
    finals = Finals(finalists=plan.finalists, seeds=plan.seeds).words
    if LEAST_TRIALS + plan.finals > 60 * plan.minutes / plan.trial_seconds:
        needed = duration((LEAST_TRIALS + plan.finals) * plan.trial_seconds)
        emit(
            Warned(
                text=f"time: {trial}; {LEAST_TRIALS} trials and {finals} take about {needed}, more than {plan.minutes:g} min"
            )
        )
        return
    emit(Note(text=f"time: {trial}; {fit}, besides {finals}; pruning makes room for more"))
