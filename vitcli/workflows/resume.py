"""Resuming of a run, or a group of runs, that was interrupted."""

import shlex

from vitcli.core.config_files import Settings, configure, settings_of
from vitcli.core.errors import RunError
from vitcli.core.events import Emit, ignore
from vitcli.core.fingerprints import is_same_data
from vitcli.core.groups import members_of_settings, whole_group
from vitcli.core.run_search import members_of
from vitcli.core.runs import Run
from vitcli.data.dataset import open_dataset
from vitcli.data.store import data_dir
from vitcli.engine.distributed import Processes, joined
from vitcli.training.assembly import Earlier
from vitcli.training.group_members import once_for_all, one_member
from vitcli.training.groups import (
    FoldsResult,
    SeedsResult,
    check_alike,
    is_summed_up,
    refuse_group,
    sum_up_last,
    summed_up,
)
from vitcli.training.result import TrainResult, result_of
from vitcli.training.resumed_run import architecture_of, other_data, resume_run
from vitcli.training.resumed_settings import (
    has_begun,
    newest_unfinished,
    output_dir_of,
    resumed_settings,
    run_called,
)
from vitcli.training.run import start


def resume(name: str, *layers: Settings, emit: Emit = ignore) -> TrainResult | FoldsResult | SeedsResult:
    """Resume a run where it stopped, even within an epoch; on a CPU, the results are as if it had never stopped.

    Args:
        name: a run in ``run.output_dir``, its path, or a group, whose remaining runs are trained too;
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
        run, is_group = run_called(name or newest_unfinished(layers, emit), output_dir)
        if is_group:
            refuse_group(processes.place)
            return _resume_group(run, layers, processes, emit)
        result = resume_run(run, layers, processes, emit)
    sum_up_last(result, emit)
    return result


def _resume_group(
    first: Run, layers: tuple[Settings, ...], processes: Processes, emit: Emit
) -> FoldsResult | SeedsResult:
    """Keep the runs that are finished, resume the one that is not, and start those that are missing."""
    folder = first.path.parent
    runs = {run.path.name: run for run in members_of(folder)}
    config = whole_group(resumed_settings(first, layers, length_too=False))
    members = members_of_settings(config)
    left = [name for name in members if name not in runs or runs[name].status != "finished"]
    if not left and is_summed_up(folder):
        what = "seeds" if config.run.seeds else "folds"
        raise RunError(
            f"all {len(members)} {what} of {folder.name} are finished",
            hint=f"vit predict --model {shlex.quote(str(folder))} IMAGE",
        )
    if others := [str(folder / name) for name in runs if name not in members]:
        raise RunError(
            f"{folder.name} has runs that are none of its {len(members)}: {', '.join(others)}",
            hint="they are perhaps of an earlier group: move them to another place",
        )
    if finished := [run for run in runs.values() if run.status == "finished"]:
        check_alike(finished)  # before the rest is trained
    dataset = open_dataset(config.data, directory=data_dir(config.data.dir), offline=config.run.offline, emit=emit)
    if not is_same_data(first.fingerprint, dataset.facts.fingerprint):
        raise other_data(first, config.data)
    results = []
    said: set[str] = set()
    for number, (name, own) in enumerate(members.items(), start=1):
        if name not in left:
            results.append(result_of(runs[name]))
            continue
        run = runs.get(name)
        with one_member(name, number, len(members), emit, group=folder):
            once = once_for_all(emit, said, runs=len(left) - left.index(name))
            if run and has_begun(run):
                results.append(resume_run(run, layers, processes, once))
            else:
                chosen = configure(settings_of(config), own, {"run": {"name": folder.name, "overwrite": True}})
                earlier = Earlier(architecture=architecture_of(first), teacher=first.info.get("teacher"))
                results.append(start(chosen, dataset, earlier=earlier, processes=processes, emit=once))
    return summed_up(results, emit)
