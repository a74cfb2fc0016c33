"""Resuming of a run, or a cross-validation, that was interrupted."""

from dataclasses import replace

from vitcli.core.config_files import Settings, configure
from vitcli.core.errors import RunError
from vitcli.core.events import Emit, ignore
from vitcli.core.run_search import folds_of
from vitcli.core.runs import Run
from vitcli.data.dataset import open_dataset
from vitcli.data.store import data_dir
from vitcli.engine.distributed import Processes, joined
from vitcli.training.assembly import Earlier
from vitcli.training.folds import FoldsResult, is_summed_up, one_fold, refuse_folds, sum_up_last_fold, summed_up
from vitcli.training.result import TrainResult, result_of
from vitcli.training.resumed_run import architecture_of, resume_run
from vitcli.training.resumed_settings import (
    has_begun,
    newest_unfinished,
    output_dir_of,
    resumed_settings,
    run_called,
)
from vitcli.training.run import start


def resume(name: str, *layers: Settings, emit: Emit = ignore) -> TrainResult | FoldsResult:
    """Resume a run where it stopped, even within an epoch; on a CPU, the results are as if it had never stopped.

    Args:
        name: a run in ``run.output_dir``, its path, or a cross-validation, whose remaining folds are trained too;
            empty: the newest unfinished run.
        layers: settings that differ from the run's own, for example the path of the data, the device, ``optim.epochs``
            or ``optim.patience``.
        emit: receives the progress.

    Raises:
        UsageError: a setting is given that may not change.
        RunError: there is no such run, it is finished, its training state is broken, or another process is training it.
        DataError: the data are not those that the run began with.
        TrainingError, Interrupted: as ``train``.
    """
    asked = configure(*layers).run
    with joined(asked.devices, shard=asked.shard) as processes:
        emit = ignore if processes.rank else emit
        output_dir = output_dir_of(layers)
        run, is_fold = run_called(name or newest_unfinished(output_dir, emit), output_dir)
        if is_fold:
            refuse_folds(processes.place)
            return _resume_folds(run, layers, processes, emit)
        result = resume_run(run, layers, processes, emit)
    sum_up_last_fold(result, emit)
    return result


def _resume_folds(first: Run, layers: tuple[Settings, ...], processes: Processes, emit: Emit) -> FoldsResult:
    """Keep the folds that are finished, resume the one that is not, and start those that are missing."""
    folder = first.path.parent
    runs = {int(run.path.name.removeprefix("fold-")): run for run in folds_of(folder)}
    config = resumed_settings(first, layers, length_too=False)
    count = config.data.folds
    is_finished = [fold in runs and runs[fold].status == "finished" for fold in range(1, count + 1)]
    if all(is_finished) and is_summed_up(folder):
        raise RunError(f"all {count} folds of {folder.name} are finished", hint=f"vit predict --model {folder} IMAGE")
    results = []
    for fold in range(1, count + 1):
        run = runs.get(fold)
        with one_fold(fold, count, emit):
            if run and run.status == "finished":
                results.append(result_of(run))
            elif run and has_begun(run):
                results.append(resume_run(run, layers, processes, emit))
            else:
                chosen = replace(
                    config,
                    data=replace(config.data, fold=fold),
                    run=replace(config.run, name=folder.name, overwrite=True),
                )
                directory = data_dir(chosen.data.dir)
                dataset = open_dataset(chosen.data, directory=directory, offline=chosen.run.offline, emit=emit)
                earlier = Earlier(architecture=architecture_of(first), teacher=first.info.get("teacher"))
                results.append(start(chosen, dataset, earlier=earlier, processes=processes, emit=emit))
    return summed_up(results, emit)
