"""Stratified cross-validation: one run per fold, all in one folder."""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

from vitcli.core.config_files import Settings, configure
from vitcli.core.errors import Interrupted, UsageError, VitError, visible
from vitcli.core.events import Emit, Event, Note, Warned, ignore
from vitcli.core.files import write_json
from vitcli.core.launch import Place, launched_as
from vitcli.core.notebooks import html_table
from vitcli.core.run_search import folds_of
from vitcli.core.runs import Run, check_free
from vitcli.training.out_of_fold import write_out_of_fold
from vitcli.training.result import TrainResult, result_of

OUT_OF_FOLD = "out-of-fold.csv"
_SUMMARY = "folds.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldsResult:
    """A finished cross-validation; functions that take the name of a model take it too."""

    run: str
    """Name of the cross-validation."""
    path: Path
    """The folder that contains the runs."""
    folds: tuple[TrainResult, ...]
    """The run of each fold."""
    val_accuracy: float
    """Mean over the folds of the validation accuracy of the best epoch, 0..1."""
    val_accuracy_spread: float
    """Sample standard deviation of that accuracy over the folds."""
    out_of_fold: Path | None
    """The table of out-of-fold predictions; None: it could not be written, and a warning said why."""

    def __repr__(self) -> str:
        return visible(f"<FoldsResult {self.path}: {len(self.folds)} folds, validation accuracy {self._score}>")

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def _repr_html_(self) -> str:
        rows = [(each.run, f"{100 * each.best.val_accuracy:.2f} %") for each in self.folds]
        return html_table([*rows, ("mean ± deviation", self._score)], headings=("run", "validation accuracy"))

    @property
    def _score(self) -> str:
        return f"{100 * self.val_accuracy:.2f} ± {100 * self.val_accuracy_spread:.2f} %"


def train_folds(*layers: Settings, train_one: Callable[..., TrainResult], emit: Emit) -> FoldsResult:
    """Train one run for every fold, which is its validation split.

    Args:
        layers: settings as for ``train``; ``data.folds`` is the number of folds.
        train_one: trains one run; it takes the layers, a last layer with fold and name, and ``emit``.
        emit: receives the progress.

    Raises:
        The errors of ``train_one``; the runs of folds that ended before are kept.
    """
    refuse_folds(launched_as())
    emit = _each_warning_once(emit)
    asked = configure(*layers)
    count, name = asked.data.folds, asked.run.name
    results: list[TrainResult] = []
    if name:
        for fold in range(1, count + 1):
            path = Path(asked.run.output_dir).expanduser() / name / f"fold-{fold}"
            check_free(path, overwrite=asked.run.overwrite)
    for fold in range(1, count + 1):
        chosen: Settings = {"data": {"fold": fold}, **({"run": {"name": name}} if name else {})}
        with one_fold(fold, count, emit):
            results.append(train_one(*layers, chosen, emit=emit))
        name = results[0].path.parent.name
        if fold == 1:
            _remove_others(results[0].path)
    return summed_up(results, emit)


def refuse_folds(place: Place) -> None:
    """Refuse to train several folds with several processes, which can only train one run together.

    Raises:
        UsageError: there are several processes.
    """
    if place.size > 1:
        raise UsageError(
            f"{place.size} processes train one fold at a time", hint="--fold 1 trains the first one, and so on"
        )


@contextmanager
def one_fold(fold: int, count: int, emit: Emit) -> Iterator[None]:
    """Announce a fold, and make the hint of an error in the block name the cross-validation instead of the fold."""
    emit(Note(text=f"fold {fold} of {count}"))
    try:
        yield
    except VitError as error:
        error.hint = error.hint.replace(f"/fold-{fold}`", "`")
        raise


def summed_up(results: Sequence[TrainResult], emit: Emit = ignore) -> FoldsResult:
    """Summarise the results of all folds: store means and out-of-fold predictions in the folder of the cross-validation."""
    accuracies = [result.best.val_accuracy for result in results]
    path = results[0].path.parent
    summary = {"val_accuracy": mean(accuracies), "val_accuracy_spread": stdev(accuracies)}
    write_json(
        path / _SUMMARY, {**summary, "folds": [{"run": each.run, "best": asdict(each.best)} for each in results]}
    )
    table: Path | None = path / OUT_OF_FOLD
    try:
        predicted = write_out_of_fold(path / OUT_OF_FOLD, [Run(result.path) for result in results], emit)
        emit(Note(text=f"out-of-fold predictions of {predicted.in_words()}: {predicted.path}"))
    except Interrupted:
        raise
    except VitError as error:  # the folds are trained all the same
        emit(Warned(text=f"no out-of-fold predictions: {error.message}"))
        table = None
    return FoldsResult(run=path.name, path=path, folds=tuple(results), out_of_fold=table, **summary)


def sum_up_last_fold(result: TrainResult, emit: Emit) -> None:
    """Summarise a cross-validation whose folds were trained one by one, if this run was the last that was missing."""
    data, folder = Run(result.path).config["data"], result.path.parent
    if not data.get("fold") or launched_as().rank:
        return
    runs = folds_of(folder)
    if len(runs) == data["folds"] and all(run.status == "finished" for run in runs):
        summary = summed_up([result_of(run) for run in runs], emit)
        scores = f"{100 * summary.val_accuracy:.2f} ± {100 * summary.val_accuracy_spread:.2f} %"
        emit(Note(text=f"all {len(runs)} folds of {folder.name} are finished: validation accuracy {scores}"))


def is_summed_up(folder: Path) -> bool:
    """Tell whether the summary of a cross-validation is stored, with out-of-fold predictions."""
    return (folder / _SUMMARY).exists() and (folder / OUT_OF_FOLD).exists()


def forget_summary(folder: Path) -> None:
    """Remove the results of a cross-validation as a whole, because one of its folds is trained again, or on."""
    for name in (_SUMMARY, OUT_OF_FOLD):
        (folder / name).unlink(missing_ok=True)
    for name in ("evaluations", "figures"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _each_warning_once(emit: Emit) -> Emit:
    """Return an ``emit`` that passes on each warning only once, not for every fold."""
    said: set[str] = set()

    def pass_on(event: Event) -> None:
        if isinstance(event, Warned):
            if event.text in said:
                return
            said.add(event.text)
        emit(event)

    return pass_on


def _remove_others(first: Path) -> None:
    """Remove the other folds of an earlier cross-validation in the same folder."""
    for fold in folds_of(first.parent):
        if fold.path != first:
            shutil.rmtree(fold.path)
