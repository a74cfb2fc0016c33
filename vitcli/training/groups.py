"""Training of a group of runs in one folder: the folds of a cross-validation, or several seeds."""

import os
import shlex
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev

from vitcli.core.config_files import Settings, configure
from vitcli.core.errors import Interrupted, RunError, UsageError, VitError, visible
from vitcli.core.events import Emit, Event, Note, TrainingStarted, Warned, ignore
from vitcli.core.files import expanded, write_json
from vitcli.core.fingerprints import is_same_data
from vitcli.core.groups import members_of_settings
from vitcli.core.launch import Place, launched_as
from vitcli.core.means import interval_of_mean
from vitcli.core.notebooks import html_table
from vitcli.core.run_search import members_of
from vitcli.core.runs import Run, check_free
from vitcli.data.locks import is_worked_in
from vitcli.trained.out_of_fold import OUT_OF_FOLD
from vitcli.training.group_members import once_for_all, one_member
from vitcli.training.out_of_fold import write_out_of_fold
from vitcli.training.result import TrainResult, result_of
from vitcli.training.resumed_settings import FREE, LENGTH
from vitcli.training.run_report import DifferentSetting, different_settings

_SUMMARIES = {"folds": "folds.json", "seeds": "seeds.json"}
_WHAT_DIFFERS = (
    "each has its own initial weights, order and changes of images, and validation images if the data have no such"
    " split; test images are the same"
)


class _GroupResult(ABC):
    """A finished group; functions that take the name of a model take it too, as the mean of its runs."""

    __slots__ = ()
    path: Path
    val_accuracy: float
    val_accuracy_spread: float

    @property
    @abstractmethod
    def members(self) -> tuple[TrainResult, ...]:
        """The results of the runs."""

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def _repr_html_(self) -> str:
        rows = [(each.run, f"{100 * each.best.val_accuracy:.2f} %") for each in self.members]
        return html_table([*rows, ("mean ± deviation", self._score)], headings=("run", "validation accuracy"))

    @property
    def _score(self) -> str:
        return f"{100 * self.val_accuracy:.2f} ± {100 * self.val_accuracy_spread:.2f} %"


@dataclass(frozen=True, kw_only=True, slots=True)
class FoldsResult(_GroupResult):
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

    @property
    def members(self) -> tuple[TrainResult, ...]:
        """The results of the folds."""
        return self.folds


@dataclass(frozen=True, kw_only=True, slots=True)
class SeedsResult(_GroupResult):
    """Finished runs that differ only in their seed; functions that take the name of a model take it too."""

    run: str
    """Name of the group."""
    path: Path
    """The folder that contains the runs."""
    seeds: tuple[TrainResult, ...]
    """The run of each seed."""
    val_accuracy: float
    """Mean over the runs of the validation accuracy of the best epoch, 0..1."""
    val_accuracy_spread: float
    """Sample standard deviation of that accuracy over the runs."""
    val_accuracy_interval: tuple[float, float] | None
    """The 95 % interval of the mean, by Student's t distribution; None: all runs have the same accuracy."""

    def __repr__(self) -> str:
        return visible(f"<SeedsResult {self.path}: {len(self.seeds)} seeds, validation accuracy {self._score}>")

    @property
    def members(self) -> tuple[TrainResult, ...]:
        """The results of the runs."""
        return self.seeds


_MAY_DIFFER = FREE | {"data.fold", "optim.class_weights"}
"""Settings of data and training in which the runs of a group may differ: the file of weights of classes may have moved."""


def train_group(*layers: Settings, train_one: Callable[..., TrainResult], emit: Emit) -> FoldsResult | SeedsResult:
    """Train every run of a group: one for every fold, which is its validation split, or one for every seed.

    Args:
        layers: settings as for ``train``; ``data.folds`` or ``run.seeds`` is the number of runs.
        train_one: trains one run; it takes the layers, a last layer with what is its own, and ``emit``.
        emit: receives the progress.

    Raises:
        RunError: there are runs in the folder of the group, and they may not be replaced.
        The errors of ``train_one``; runs that ended before are kept.
    """
    refuse_group(launched_as())
    asked = configure(*layers)
    members, name = members_of_settings(asked), asked.run.name
    results: list[TrainResult] = []
    said: set[str] = set()
    if name:
        folder = expanded(asked.run.output_dir) / name
        for path in (*(folder / member for member in members), *(run.path for run in members_of(folder))):
            check_free(path, overwrite=asked.run.overwrite)
            if path.exists() and is_worked_in(path):
                raise RunError(f"another process is training {path}", hint="wait for it, or give another --name")
    if asked.run.seeds and not asked.data.folds:
        emit(Note(text=f"seeds: {', '.join(member.partition('-')[2] for member in members)}; {_WHAT_DIFFERS}"))
    for number, (member, own) in enumerate(members.items(), start=1):
        named: Settings = {"run": {**own.get("run", {}), **({"name": name} if name else {})}}
        once = once_for_all(emit, said, runs=len(members) - number + 1)
        if name and number == 1:  # from its start on, the folder is that of the new group
            once = _at_start(partial(_remove_others, folder / member), once)
        group = results[0].path.parent if results else None
        with one_member(member, number, len(members), emit, group=group) as begun:
            results.append(train_one(*layers, {**own, **named}, emit=once))
            begun(results[0].path.parent)
        name = results[0].path.parent.name
    return summed_up(results, emit)


def refuse_group(place: Place) -> None:
    """Refuse to train several runs with several processes, which can only train one run together.

    Raises:
        UsageError: there are several processes.
    """
    if place.size > 1:
        raise UsageError(
            f"{place.size} processes train one run at a time",
            hint="--fold 1, or --seed 0, trains the first one, and so on",
        )


def summed_up(results: Sequence[TrainResult], emit: Emit = ignore) -> FoldsResult | SeedsResult:
    """Summarise the results of all runs of a group: store means, and out-of-fold predictions, in its folder.

    Raises:
        RunError: the runs were not trained with the same settings, so that a mean says nothing.
    """
    path = results[0].path.parent
    if lengths := check_alike([Run(result.path) for result in results]):
        emit(Warned(text=f"the runs of {path.name} were not trained equally long: {', '.join(lengths)}"))
    accuracies = [result.best.val_accuracy for result in results]
    kind = f"{results[0].path.name.partition('-')[0]}s"
    summary = {"val_accuracy": mean(accuracies), "val_accuracy_spread": stdev(accuracies)}
    interval = interval_of_mean(accuracies)
    own = {"val_accuracy_interval": interval} if kind == "seeds" else {}
    runs = [{"run": each.run, "best": asdict(each.best)} for each in results]
    write_json(path / _SUMMARIES[kind], {**summary, **own, kind: runs})
    if kind == "seeds":
        return SeedsResult(run=path.name, path=path, seeds=tuple(results), val_accuracy_interval=interval, **summary)
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


def sum_up_last(result: TrainResult, emit: Emit) -> None:
    """Summarise a group whose runs were trained one by one, if this run was the last that was missing."""
    run = Run(result.path)
    if not run.is_member or launched_as().rank:
        return
    runs = members_of(run.path.parent)
    config, kind = run.config, "folds" if run.group == "cross-validation" else "seeds"
    count = config["data" if kind == "folds" else "run"][kind]
    if len(runs) == count and all(each.status == "finished" for each in runs):
        try:
            summary = summed_up([result_of(each) for each in runs], emit)
        except RunError as error:  # this run is trained all the same
            emit(Warned(text=f"{error.message}. {error.hint}"))
            return
        scores = f"{100 * summary.val_accuracy:.2f} ± {100 * summary.val_accuracy_spread:.2f} %"
        emit(Note(text=f"all {count} {kind} of {summary.run} are finished: validation accuracy {scores}"))


def check_alike(runs: Sequence[Run]) -> list[str]:
    """Check that the runs of a group have the same data, and the same settings of data, model and training.

    Returns:
        The settings of the length of training that differ, which a mean may have.

    Raises:
        RunError: the data or other settings differ, so that a mean would say nothing.
    """
    group = runs[0].path.parent.name
    if other := next((run for run in runs if not is_same_data(run.fingerprint, runs[0].fingerprint)), None):
        raise RunError(
            f"the runs of {group} were trained on different data, so their mean would say nothing: {other.name} has other"
            f" images or labels than {runs[0].name}",
            hint="train the group again, with --overwrite or another --name",
        )
    differ = [row.setting for row in different_settings(runs) if _matters(row)]
    if others := [setting for setting in differ if setting not in LENGTH]:
        raise RunError(
            f"the runs of {group} have different settings, so their mean would say nothing: {', '.join(others)}",
            hint=f"`vit runs compare {shlex.join(str(run.path) for run in runs[:2])}` shows more",
        )
    return differ


def _matters(row: DifferentSetting) -> bool:
    """Tell whether a setting must be the same in all runs of a group, and is not.

    Weights may have moved to another folder, and earlier versions stored fewer settings (None).
    """
    if len({repr(value) for value in row.values if value is not None}) < 2:
        return False
    if row.setting in {"run.init_from", "teacher.name"}:
        return len({Path(value or "").name for value in row.values}) > 1
    return not row.setting.startswith("run.") and row.setting not in _MAY_DIFFER


def is_summed_up(folder: Path) -> bool:
    """Tell whether the summary of a group is stored, and out-of-fold predictions if it is a cross-validation."""
    if (folder / _SUMMARIES["seeds"]).exists():
        return True
    return (folder / _SUMMARIES["folds"]).exists() and (folder / OUT_OF_FOLD).exists()


def forget_summary(folder: Path) -> None:
    """Remove the results of a group as a whole, because one of its runs is trained again, or on."""
    for name in (*_SUMMARIES.values(), OUT_OF_FOLD):
        (folder / name).unlink(missing_ok=True)
    for name in ("evaluations", "figures"):
        shutil.rmtree(folder / name, ignore_errors=True)


def _at_start(act: Callable[[], None], emit: Emit) -> Emit:
    """Return an ``emit`` that acts before it passes on that a training starts."""

    def pass_on(event: Event) -> None:
        if isinstance(event, TrainingStarted):
            act()
        emit(event)

    return pass_on


def _remove_others(first: Path) -> None:
    """Remove the other runs of an earlier group in the same folder."""
    aside = Path(tempfile.mkdtemp(prefix=".replaced-", dir=first.parent))  # out of the way at once, whatever happens
    for run in members_of(first.parent):
        if run.path != first:
            run.path.rename(aside / run.path.name)
    shutil.rmtree(aside)
