"""Rows of the list of runs: the facts and the scores of each run, and of each group of runs as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, get_args

from vitcli.core.errors import RunError
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.means import interval_of_mean
from vitcli.core.run_files import EvaluationFile, Status
from vitcli.core.runs import Run, evaluation_file
from vitcli.core.stored import read_json
from vitcli.core.tags import tags_of
from vitcli.core.words import percent, percent_or_none
from vitcli.data.locks import is_worked_in
from vitcli.models.registry import changed_sizes, with_sizes

STATUSES = (*get_args(Status), "killed", "unfinished")
"""The status of a run or a group in a row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRow:
    """One run, or a group of runs (a cross-validation, or several seeds) as a whole; accuracies are in 0..1, or None if there is none yet."""

    name: str
    path: Path
    """The folder."""
    status: str
    """running, finished, interrupted, failed or killed; of a group, unfinished until all of its runs are finished."""
    folds: int | None
    """The number of folds of a cross-validation; None: a single run, or several seeds."""
    folds_finished: int | None
    """The number of folds that are finished; None: as for ``folds``."""
    seeds: int | None
    """The number of runs that differ only in their seed; None: a single run, or a cross-validation."""
    seeds_finished: int | None
    """The number of these runs that are finished; None: as for ``seeds``."""
    dataset: str
    model: str
    changed_sizes: str
    """The sizes of the model that differ from those of its name, such as ``depth 2``; empty: none does."""
    recipe: str
    epochs: int
    """The number of epochs that were trained; of a group, the most of one of its runs."""
    best_epoch: int | None
    """The epoch that is kept; None: there is none yet, or it is a group."""
    val_accuracy: float | None
    """The accuracy of the kept epoch on the validation images; of a group, the mean of its finished runs."""
    val_accuracy_spread: float | None
    """Sample standard deviation of that accuracy over the runs of a group; None: a single run."""
    val_accuracy_interval: tuple[float, float] | None
    """The 95 % interval of the mean over several seeds; None: a single run, folds, one seed, or seeds that agree."""
    val_loss: float | None
    """The loss on the same images; of a group, the mean of its finished runs."""
    test_accuracy: float | None
    """Test accuracy, as ``vit eval`` found it; of a group, that of the mean of its probabilities, as the next three."""
    test_loss: float | None
    """Loss on the test images."""
    test_balanced_accuracy: float | None
    """Mean accuracy of the classes on the test images."""
    test_macro_f1: float | None
    """Mean F1 of the classes on the test images."""
    test_held_out: bool
    """False if the test images were scored in training, so that ``test_accuracy`` is not of unseen images."""
    test_outdated: bool
    """True if the test images were evaluated before the run was trained on, so that ``test_accuracy`` is None."""
    started: str
    """Date and time of the start, ISO 8601."""
    ended: str | None
    """Date and time of the end; None: it has not ended."""
    resumed: int
    """Number of times that the run was resumed."""
    parameters: int | None
    """Number of parameters; None: not known."""
    seconds: float | None
    """Time for training, features and validation, also before the run was resumed; None: the run has not ended yet."""
    tags: tuple[str, ...]
    """The user's own words about it."""
    fingerprint: str | None
    """The fingerprint of the data; None: not known."""

    @property
    def status_in_words(self) -> str:
        """The status; of a group that is not finished, how many of its runs are."""
        if self.status != "finished" and (self.folds or self.seeds):
            return (
                f"{self.folds_finished} of {self.folds} folds"
                if self.folds
                else f"{self.seeds_finished} of {self.seeds} seeds"
            )
        return self.status

    @property
    def model_in_words(self) -> str:
        """The model, with its changed sizes."""
        return with_sizes(self.model, self.changed_sizes)

    @property
    def accuracy_in_words(self) -> str:
        """The validation accuracy; of a group, with its spread."""
        if self.val_accuracy is None or self.val_accuracy_spread is None:
            return percent_or_none(self.val_accuracy)
        return f"{100 * self.val_accuracy:.2f} ± {percent(self.val_accuracy_spread)}"


def list_rows(runs: Sequence[Run], emit: Emit = ignore) -> list[RunRow]:
    """Make the rows of runs, in their order; warn about files that cannot be read.

    A group has a row of its own before the first one of its runs.
    """
    rows = {run.path: _row(run, emit) for run in runs}
    groups: dict[Path, list[Run]] = {}
    for run in runs:
        if run.is_member:
            groups.setdefault(run.path.parent, []).append(run)
    listed = []
    for run in runs:
        if together := groups.pop(run.path.parent, []):
            listed.append(_row_of_group(together, [rows[each.path] for each in together], emit))
        listed.append(rows[run.path])
    return listed


def _row(run: Run, emit: Emit) -> RunRow:
    metrics: dict[str, Any] = {}
    test: dict[str, Any] = {}
    fingerprint, is_outdated, sizes = None, False, ""
    try:
        metrics = run.metrics
        test, is_outdated = run.test_evaluation, run.test_is_outdated
        fingerprint = run.fingerprint
        sizes = changed_sizes(run.info["model"], run.config.get("model", {}))
    except RunError as error:  # one broken run must not hide the others
        emit(Warned(text=f"without its figures: {error.message}"))
    best = metrics.get("best")
    return RunRow(
        name=run.name,
        path=run.path,
        status="killed" if run.status == "running" and not is_worked_in(run.path) else run.status,
        folds=None,
        folds_finished=None,
        seeds=None,
        seeds_finished=None,
        dataset=run.info["dataset"],
        model=run.info["model"],
        changed_sizes=sizes,
        recipe=run.info["recipe"],
        epochs=len(metrics.get("epochs", ())),
        best_epoch=best and best["epoch"],
        val_accuracy=best and best["val_accuracy"],
        val_accuracy_spread=None,
        val_accuracy_interval=None,
        val_loss=best and best.get("val_loss"),
        **_test_scores({} if is_outdated else test),
        test_held_out=test.get("held_out") is not False,
        test_outdated=is_outdated,
        parameters=run.info.get("parameters"),
        started=run.info["started"],
        ended=run.info["ended"],
        resumed=len(run.info.get("resumed", ())),
        seconds=run.info.get("seconds"),
        tags=_tags(run.path, emit),
        fingerprint=fingerprint,
    )


def _tags(folder: Path, emit: Emit) -> tuple[str, ...]:
    try:
        return tuple(tags_of(folder))
    except RunError as error:
        emit(Warned(text=f"without its tags: {error.message}"))
        return ()


def _test_scores(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores on the test images from a stored evaluation; None: it has no such score."""
    names = {"test_accuracy": "top1", "test_loss": "loss"}
    names |= {f"test_{name}": name for name in ("balanced_accuracy", "macro_f1")}
    return {field: stored.get(name) for field, name in names.items()}


def _row_of_group(runs: Sequence[Run], rows: Sequence[RunRow], emit: Emit) -> RunRow:
    """Sum up the runs of a group."""
    folder, is_seeds = runs[0].path.parent, runs[0].group != "cross-validation"
    finished = [row for row in rows if row.status == "finished"]
    scores = [row.val_accuracy for row in finished if row.val_accuracy is not None]
    losses = [row.val_loss for row in finished if row.val_loss is not None]
    count, stored = len(rows), evaluation_file(folder, "test")
    test: dict[str, Any] = {}
    try:
        config = runs[0].config
        count = config["run"]["seeds"] if is_seeds else config["data"]["folds"]
        test = read_json(stored, EvaluationFile) if stored.exists() else {}
    except RunError as error:
        emit(Warned(text=f"without its figures: {error.message}"))
    except (OSError, ValueError) as error:
        emit(Warned(text=f"without its figures: {stored} cannot be read: {error}"))
    ends = [row.ended for row in rows if row.ended]
    return replace(
        min(rows, key=lambda row: row.started),
        name=folder.resolve().name,
        path=folder,
        status="finished" if len(finished) == count else "unfinished",
        folds=None if is_seeds else count,
        folds_finished=None if is_seeds else len(finished),
        seeds=count if is_seeds else None,
        seeds_finished=len(finished) if is_seeds else None,
        epochs=max(row.epochs for row in rows),
        best_epoch=None,
        val_accuracy=mean(scores) if scores else None,
        val_accuracy_spread=stdev(scores) if len(scores) > 1 else None,
        val_accuracy_interval=interval_of_mean(scores) if is_seeds else None,
        val_loss=mean(losses) if losses else None,
        **_test_scores(test),
        test_held_out=test.get("held_out") is not False,
        test_outdated=False,
        ended=max(ends) if len(ends) == len(rows) else None,
        resumed=sum(row.resumed for row in rows),
        seconds=sum(row.seconds or 0 for row in rows) or None,
        tags=_tags(folder, emit),
    )
