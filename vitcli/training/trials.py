"""One trial of a search for settings: chosen by Optuna, reported to it after each epoch, and stored by it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vitcli.core.search_space import Dimension, Value, combinations
from vitcli.core.seeds import derived_seed

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRow:
    """One trial that has ended."""

    number: int
    """Number of the trial, from 0."""
    state: Literal["finished", "pruned", "failed"]
    """pruned: ended early, because it was worse than the median of other trials at the same epoch."""
    is_default: bool
    """True if it has the default settings."""
    settings: Mapping[str, Any]
    """The values of the searched settings."""
    val_accuracy: float | None
    """Validation accuracy of the epoch that is kept; of a pruned trial, of its last epoch; None: it failed."""
    val_loss: float | None
    """Validation loss of that epoch; None: it was pruned or failed."""
    epochs: int
    """Epochs that were trained."""
    seconds: float
    """Time that the trial took."""
    reason: str
    """The reason why it failed; empty: it did not fail."""


class OpenTrial:
    """A trial that is being trained, in a new process perhaps not for the first time.

    Args:
        study: Optuna's study.
        space: the searched settings.
        seed: the seed of the search; a trial depends on it, on its number and on the trials before it.
    """

    def __init__(self, study: "optuna.Study", space: Sequence[Dimension], *, seed: int) -> None:
        import optuna

        states = optuna.trial.TrialState
        trials = study.get_trials(deepcopy=False)
        begun = [each for each in trials if each.state == states.RUNNING]
        self.number: int = begun[0].number if begun else sum(each.state != states.WAITING for each in trials)
        if not begun and not any(each.state == states.WAITING for each in trials):
            for values in untried(rows_of(trials), space, seed=seed)[:1]:
                study.enqueue_trial(values)
        study.sampler = optuna.samplers.TPESampler(seed=derived_seed("tune", seed, self.number) % 2**32)
        self._study = study
        self._trial: optuna.Trial = optuna.trial.Trial(study, begun[0]._trial_id) if begun else study.ask()  # noqa: SLF001 - Optuna has no other way to continue a trial
        self._reported: int = max(begun[0].intermediate_values, default=0) if begun else 0
        self.is_default: bool = self._trial.user_attrs.get("is_default", False)
        self.values: dict[str, Value] = {each.setting: each.suggest(self._trial) for each in space}
        self._trial.set_user_attr("values", self.values)

    @property
    def folder(self) -> str:
        """The name of its run."""
        return f"trial-{self.number:04d}"

    def is_to_be_pruned(self, epoch: int, accuracy: float) -> bool:
        """Report the validation accuracy after an epoch, and tell whether the trial is worse than the median of others."""
        if epoch > self._reported:
            self._trial.report(accuracy, epoch)
            self._reported = epoch
        return bool(self._trial.should_prune())

    def finish(self, accuracy: float, *, loss: float, epochs: int, seconds: float) -> TrialRow:
        """Store the result of a whole training."""
        self._set(val_loss=loss, epochs=epochs, seconds=seconds)
        return row_of(self._study.tell(self._trial, accuracy))

    def prune(self, *, seconds: float) -> TrialRow:
        """Store that the trial was ended early."""
        import optuna

        self._set(seconds=seconds)
        return row_of(self._study.tell(self._trial, state=optuna.trial.TrialState.PRUNED))

    def fail(self, reason: str, *, seconds: float) -> TrialRow:
        """Store why the trial failed."""
        import optuna

        self._set(reason=reason, seconds=seconds)
        return row_of(self._study.tell(self._trial, state=optuna.trial.TrialState.FAIL))

    def _set(self, **facts: Any) -> None:
        for name, fact in facts.items():
            self._trial.set_user_attr(name, fact)


def row_of(trial: "optuna.trial.FrozenTrial") -> TrialRow:
    """Return the row of a trial of Optuna that has ended."""
    states: dict[str, Literal["finished", "pruned", "failed"]] = {"COMPLETE": "finished", "PRUNED": "pruned"}
    facts = trial.user_attrs
    return TrialRow(
        number=trial.number,
        state=states.get(trial.state.name, "failed"),
        is_default=facts.get("is_default", False),
        settings=facts.get("values", {}),
        val_accuracy=trial.value,
        val_loss=facts.get("val_loss"),
        epochs=facts.get("epochs", trial.last_step or 0),
        seconds=facts.get("seconds", 0.0),
        reason=facts.get("reason", ""),
    )


def rows_of(trials: "Iterable[optuna.trial.FrozenTrial]") -> list[TrialRow]:
    """Return the rows of those trials that have ended."""
    return [row_of(each) for each in trials if each.state.is_finished()]


def untried(rows: Sequence[TrialRow], space: Sequence[Dimension], *, seed: int) -> list[dict[str, Value]]:
    """Return the combinations of a small space that no trial has had yet, in an order that depends on the seed."""
    every = combinations(space)
    order = sorted(range(len(every)), key=lambda at: derived_seed("combination", seed, at))
    tried = [row.settings for row in rows]
    return [every[at] for at in order if every[at] not in tried]


def best_of(rows: Sequence[TrialRow], count: int) -> list[TrialRow]:
    """Return the best finished trials that differ from the default and from each other.

    Among equal accuracies, the lowest loss is the best.
    """
    finished = [row for row in rows if row.state == "finished" and not row.is_default]
    known, best = [row.settings for row in rows if row.is_default], list[TrialRow]()
    for row in sorted(finished, key=lambda row: (-(row.val_accuracy or 0.0), row.val_loss or 0.0)):
        if row.settings not in known:
            known.append(row.settings)
            best.append(row)
    return best[:count]
