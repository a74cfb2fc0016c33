"""The trainings of a search for settings: trials one after the other, then the finals on fresh seeds."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from vitcli.core.config_files import Settings, configure, settings_of
from vitcli.core.errors import DataError, Interrupted, ModelError, TrainingError, UsageError
from vitcli.core.events import (
    Emit,
    EpochRecord,
    Event,
    Note,
    SearchProgress,
    TaskProgress,
    TrainingProgress,
    TrainingStarted,
    TrialEnded,
    Warned,
    ignore,
)
from vitcli.core.fingerprints import is_same_data
from vitcli.core.groups import members_of_settings
from vitcli.core.interrupts import StopRequest
from vitcli.core.memory import is_out_of_memory, out_of_memory
from vitcli.core.runs import Run
from vitcli.core.search_limits import Finals
from vitcli.core.search_space import settings_with
from vitcli.core.words import percent
from vitcli.engine.distributed import Processes
from vitcli.training.finals import DEFAULT, FinalRow, compared
from vitcli.training.groups import sum_up_last
from vitcli.training.result import TrainResult, result_of
from vitcli.training.resumed_run import resume_run
from vitcli.training.resumed_settings import has_begun
from vitcli.training.run import start
from vitcli.training.settings import settle_again
from vitcli.training.stated_settings import find_models
from vitcli.training.study import Study
from vitcli.training.trials import TrialRow, best_of
from vitcli.training.tune_budget import Budget, finalists_of

_MOST_FAILURES = 10
"""Failed trials in a row that end a search."""
OnEpoch = Callable[[EpochRecord, int], None]
"""A function that gets the record of an epoch, and the number of epochs."""


class _Pruned(Interrupted):
    """The early end of a trial that is worse than others."""

    def __init__(self) -> None:
        super().__init__("ended early: worse than the median of other trials", exit_code=0)


class _Failed(Exception):
    """The end of a training whose settings do not work: a loss that is not finite, no memory, or a contradiction."""

    def with_default(self) -> TrainingError:
        """Return the error of a search whose default settings do not work."""
        return TrainingError(
            f"training fails with the default settings: {self}",
            hint="choose others, for example --set optim.lr=0.001; `vit train` with the same options tells more",
        )


class Search:
    """The trainings of a study, which this process has locked.

    Args:
        study: the study.
        emit: receives the progress; of the events of a training, only warnings, and each only once.
        stop: the stop request, checked between trainings.
    """

    def __init__(self, study: Study, emit: Emit, stop: StopRequest) -> None:
        self.study, self.emit, self.stop = study, emit, stop
        self.config = study.config
        self.budget = Budget(study, emit)
        self._warned: set[str] = set()

    def try_settings(self) -> None:
        """Train trials until the budget is used, apart from the time of the finals.

        Raises:
            TrainingError: the default settings fail, or ten trials in a row; or the budget holds no finals.
            Interrupted: a signal asked to stop; the study can be continued.
        """
        rows = self.study.rows
        self.budget.choose_finals(rows)
        while self.study.has_open_trial or self.budget.has_time(rows):
            rows.append(self._try(rows))
            self.budget.choose_finals(rows)
            last = rows[-_MOST_FAILURES:]
            if len(last) == _MOST_FAILURES and all(row.state == "failed" for row in last):
                raise TrainingError(
                    f"the last {_MOST_FAILURES} trials have failed, the last one: {last[-1].reason}",
                    hint="search other values: --search optim.lr=1e-4..1e-2:log",
                )

    def run_finals(self) -> list[FinalRow]:
        """Train the default and the best trials with every fresh seed, and compare them; empty: only the default ended.

        Raises:
            TrainingError: the default settings fail, or the budget holds no finals.
            Interrupted: a signal asked to stop; the study can be continued.
        """
        stored, run, rows = self.study.stored, self.config.run, self.study.rows
        if not best_of(rows, 1):
            return []
        if stored.finals is None:
            self.budget.choose_finals(rows)
            found = len(best_of(rows, self.budget.finals.finalists))  # fewer than asked for if few trials have ended
            stored.finals = self.budget.chosen = Finals(finalists=found, seeds=self.budget.finals.seeds)
            self.study.save()
            self.emit(Note(text=f"finals: {self.budget.finals_in_words(self.budget.finals, rows)}"))
        finalists = finalists_of(rows, self.budget.finals)
        layers: dict[str, Settings] = {DEFAULT: {}}
        layers |= {name: settings_with(row.settings, self.config.augment) for name, row in finalists.items()}
        seeds: Settings = {"run": {"seeds": self.budget.finals.seeds, "seed": run.seed + 1}}
        results: dict[str, list[TrainResult]] = {name: [] for name in layers}
        total = len(layers) * self.budget.finals.seeds
        for at, (member, own) in enumerate(members_of_settings(configure(settings_of(self.config), seeds)).items()):
            for nth, name in enumerate(list(results), start=1):
                number = at * len(layers) + nth
                emit = self._listener(f"final {number} of {total}", partial(_share_of_finals, number, total))
                try:
                    with self._failing():
                        result = self._train(name, (layers[name], seeds, own), emit, member=member)
                except _Failed as failure:
                    if name == DEFAULT:
                        raise failure.with_default() from None
                    del results[name]
                    self.emit(Warned(text=f"{name} has failed with {member}, so it is not compared: {failure}"))
                    continue
                sum_up_last(result, ignore)
                results[name].append(result)
                self.emit(Note(text=f"final {number} of {total}: {result.run}: {percent(result.best.val_accuracy)}"))
                self.budget.save()
        trials = {name: (row.number, row.settings) for name, row in finalists.items()}
        images = _validated(results[DEFAULT])
        return compared(results, {DEFAULT: (None, {}), **trials}, folder=self.study.path, images=images)

    @property
    def seeds(self) -> range:
        """The fresh seeds."""
        first = self.config.run.seed + 1
        return range(first, first + self.budget.finals.seeds)

    def _try(self, rows: Sequence[TrialRow]) -> TrialRow:
        """Train one trial, and store how it ended."""
        trial, stored, began = self.study.next_trial(), self.study.stored, time.monotonic()
        best = max((row.val_accuracy or 0.0 for row in rows if row.state == "finished"), default=None)
        epochs = self.config.optim.epochs

        def judge(record: EpochRecord, planned: int) -> None:
            nonlocal epochs
            epochs = planned
            if trial.is_to_be_pruned(record.epoch, record.val_accuracy) and record.epoch < planned:
                raise _Pruned

        def share(part: float) -> float:
            used = self.budget.seconds / max(self.budget.seconds_for_trials(rows), 1.0)
            return min(max(used, (len(rows) + part) / stored.trials if stored.trials else 0.0), 1.0)

        emit = self._listener(f"trial {trial.number}", share, best=best, on_epoch=judge)
        layer = {} if trial.is_default else settings_with(trial.values, self.config.augment)
        try:
            with self._failing():
                result = self._train(trial.folder, (layer,), emit, on_epoch=judge)
        except _Pruned:
            row = trial.prune(seconds=time.monotonic() - began)
        except _Failed as failure:
            if trial.is_default:
                raise failure.with_default() from None
            row = trial.fail(str(failure), seconds=time.monotonic() - began)
        else:
            kept = result.best
            seconds = max(time.monotonic() - began, result.seconds)  # more than one process may have trained it
            row = trial.finish(kept.val_accuracy, loss=kept.val_loss, epochs=result.epochs, seconds=seconds)
        for name in ("checkpoints", "cache"):
            shutil.rmtree(self.study.path / trial.folder / name, ignore_errors=True)
        self.budget.save()
        is_best = row.state == "finished" and (best is None or (row.val_accuracy or 0.0) > best)
        self.emit(
            TrialEnded(
                number=row.number,
                val_accuracy=row.val_accuracy,
                epoch=row.epochs,
                epochs=epochs,
                outcome=f"failed ({row.reason})" if row.state == "failed" else row.state * (row.state == "pruned"),
                settings={} if row.is_default else row.settings,
                is_best=is_best,
            )
        )
        return row

    def _train(
        self,
        name: str,
        layers: tuple[Settings, ...],
        emit: Emit,
        *,
        member: str = "",
        on_epoch: OnEpoch | None = None,
    ) -> TrainResult:
        """Train a run of the study as ``vit train`` does; continue it if it has begun, or return its result."""
        path = self.study.path / name / member
        run = Run(path) if (path / "run.json").exists() else None
        if run and run.status == "finished":
            return result_of(run)
        if run and has_begun(run):
            for record in run.metrics.get("epochs", ()) if on_epoch else ():
                assert on_epoch
                on_epoch(EpochRecord(**record), run.config["optim"]["epochs"])
            return resume_run(run, (), Processes(), emit)
        config, dataset = settle_again(self.config, (*layers, {"run": {"name": name, "overwrite": True}}), emit)
        if not is_same_data(dataset.facts.fingerprint, self.study.stored.fingerprint):
            raise DataError(
                f"{dataset.facts.name} is not the data of study {self.study.name}: images, labels or classes changed",
                hint="restore them, or start a new search: vit tune",
            )
        return start(config, dataset, processes=Processes(), emit=emit)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Turn errors that are the fault of the settings into ``_Failed``."""
        try:
            yield
        except (TrainingError, UsageError, ModelError) as error:
            find_models(self.config, init_from=self.config.run.init_from)  # if weights are gone, no settings work
            raise _Failed(error.message) from None
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise _Failed(out_of_memory(error).message) from None

    def _listener(
        self,
        task: str,
        share: Callable[[float], float],
        *,
        best: float | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> Emit:
        """Return the listener of a training, which reports where it is and how much of the budget is used.

        Args:
            task: the training, in words.
            share: returns the used share of the budget, from the share of this training that is done.
            best: the best accuracy so far.
            on_epoch: is called after each epoch.
        """
        epochs = steps = 1

        def report(epoch: int, part: float) -> None:
            self.emit(SearchProgress(task=task, epoch=epoch, epochs=epochs, best=best, share=share(part)))

        def listen(event: Event) -> None:
            nonlocal epochs, steps
            if self.stop:
                raise self.stop.error(f"in {task}")
            match event:
                case TrainingStarted():
                    epochs, steps = event.epochs, event.steps_per_epoch
                case TrainingProgress():
                    report(event.epoch, (event.epoch - 1 + event.step / steps) / epochs)
                case EpochRecord():
                    report(event.epoch, event.epoch / epochs)
                    self.budget.save()
                    if on_epoch:
                        on_epoch(event, epochs)
                case TaskProgress():
                    self.emit(event)
                case Warned() if event.text not in self._warned:
                    self._warned.add(event.text)
                    self.emit(event)

        return listen


def _validated(results: Sequence[TrainResult]) -> int:
    """Count the different images that runs with several seeds were validated on."""
    splits = [Run(each.path).split or {} for each in results]
    held_out = {name for split in splits for name in split.get("held_out", {}).get("val", ())}
    return len(held_out) or results[0].val_images


def _share_of_finals(number: int, total: int, part: float) -> float:
    """Return the share of the finals that is done; ``part`` is the share of the current one."""
    return (number - 1 + part) / total
