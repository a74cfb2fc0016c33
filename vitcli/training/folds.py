"""Stratified cross-validation: one run per fold, side by side in one folder."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev

from vitcli.core.config_files import Settings, configure
from vitcli.core.errors import UsageError, VitError
from vitcli.core.events import Emit, Event, Note, Warned
from vitcli.core.files import write_json
from vitcli.core.launch import Place, launched_as
from vitcli.core.runs import check_free, folds_of
from vitcli.training.result import TrainResult


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldsResult:
    """A finished cross-validation."""

    run: str
    path: Path
    folds: tuple[TrainResult, ...]
    val_accuracy: float
    """Mean over the folds of their best epochs, 0..1."""
    val_accuracy_spread: float
    """Sample standard deviation over the folds."""


def train_folds(*layers: Settings, train_one: Callable[..., TrainResult], emit: Emit) -> FoldsResult:
    """Train once for every fold, with this fold for validation.

    Args:
        layers: settings as for ``train``; ``data.folds`` says how many.
        train_one: takes the layers with fold and name above them, and ``emit``.
        emit: told about the progress.

    Raises:
        what ``train_one`` raises; folds that ended before stay.
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
    return summed_up(results)


def refuse_folds(place: Place) -> None:
    """Several processes train one run together.

    Raises:
        UsageError: there are several, and many runs to train.
    """
    if place.size > 1:
        raise UsageError(
            f"{place.size} processes train one fold at a time", hint="--fold 1 trains the first one, and so on"
        )


@contextmanager
def one_fold(fold: int, count: int, emit: Emit) -> Iterator[None]:
    """While the block trains one of several folds, the hint of an error is about all of them."""
    emit(Note(text=f"fold {fold} of {count}"))
    try:
        yield
    except VitError as error:
        error.hint = error.hint.replace(f"/fold-{fold}`", "`")
        raise


def summed_up(results: Sequence[TrainResult]) -> FoldsResult:
    """The result of a cross-validation from those of its folds; it is kept beside them."""
    accuracies = [result.best.val_accuracy for result in results]
    path = results[0].path.parent
    result = FoldsResult(
        run=path.name,
        path=path,
        folds=tuple(results),
        val_accuracy=mean(accuracies),
        val_accuracy_spread=stdev(accuracies),
    )
    write_json(
        path / "folds.json",
        {
            "val_accuracy": result.val_accuracy,
            "val_accuracy_spread": result.val_accuracy_spread,
            "folds": [{"run": each.run, "best": asdict(each.best)} for each in results],
        },
    )
    return result


def _each_warning_once(emit: Emit) -> Emit:
    """Pass on each warning once, not again for every fold."""
    said: set[str] = set()

    def pass_on(event: Event) -> None:
        if isinstance(event, Warned):
            if event.text in said:
                return
            said.add(event.text)
        emit(event)

    return pass_on


def _remove_others(first: Path) -> None:
    """An earlier cross-validation of that name goes when the first fold of this one is there."""
    for fold in folds_of(first.parent):
        if fold.path != first:
            shutil.rmtree(fold.path)
    (first.parent / "folds.json").unlink(missing_ok=True)
    for name in ("evaluations", "figures"):
        shutil.rmtree(first.parent / name, ignore_errors=True)
