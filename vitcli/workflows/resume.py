"""Go on with a run that was interrupted, killed, or stopped by a fault, as if that had not happened."""

import json
from contextlib import nullcontext
from dataclasses import replace

import torch

from vitcli.core.config import OptimConfig, TrainConfig
from vitcli.core.config_files import Settings, configure, settings_of
from vitcli.core.errors import DataError, RunError, UsageError
from vitcli.core.events import Emit, EpochRecord, Note, Warned, ignore
from vitcli.core.files import remove_abandoned
from vitcli.core.runs import SCHEMA, Run, folds_of
from vitcli.core.version import __version__
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.splits import plan_splits
from vitcli.data.store import data_dir
from vitcli.engine.checkpoint import model_config_from, preprocessing_from
from vitcli.engine.device import seed_everything
from vitcli.engine.distributed import Processes, joined
from vitcli.engine.schedule import learning_rate_factor
from vitcli.engine.state import State, load_state
from vitcli.engine.stopping import is_out_of_patience, is_over
from vitcli.trained.precision import choose_computing, will_shard
from vitcli.training.assembly import Training
from vitcli.training.images import prepare_training_data
from vitcli.training.loggers import mind_useless_steps
from vitcli.training.result import TrainResult, result_of
from vitcli.training.resumed_settings import (
    DERIVED,
    has_begun,
    never_begun,
    output_dir_of,
    resumed_settings,
    run_called,
    stored_settings,
)
from vitcli.training.saving import resume_command
from vitcli.training.starting_model import resumed_model, starting_model
from vitcli.training.teacher import load_teacher
from vitcli.workflows.folds import FoldsResult, one_fold, refuse_folds, summed_up
from vitcli.workflows.train import fit, only_trainer_of, start, stored_split, train_along


def resume(name: str, *layers: Settings, emit: Emit = ignore) -> TrainResult | FoldsResult:
    """Train on where a run ended, in the middle of an epoch if need be; on the CPU every bit is as without the break.

    Args:
        name: a run in ``run.output_dir``, its path, or a cross-validation, whose other folds are trained then.
        layers: settings that differ from the run's own: where data are, which device; ``optim.epochs`` and
            ``optim.patience``.
        emit: told about the progress.

    Raises:
        UsageError: a setting that would make it another run.
        RunError: there is no such run, it is finished, its state is broken, or another process is training it.
        DataError: the data are not those that the run began with.
        TrainingError, Interrupted: as with ``train``.
    """
    asked = configure(*layers).run
    with joined(asked.devices, shard=asked.shard) as processes:
        emit = ignore if processes.rank else emit
        run, is_fold = run_called(name, output_dir_of(layers))
        if is_fold:
            refuse_folds(processes.place)
            return _resume_folds(run, layers, processes, emit)
        return resume_run(run, layers, processes, emit)


def _resume_folds(first: Run, layers: tuple[Settings, ...], processes: Processes, emit: Emit) -> FoldsResult:
    """Folds that are finished stay, the one that is not goes on, and those that are missing begin."""
    folder = first.path.parent
    runs = {int(run.path.name.removeprefix("fold-")): run for run in folds_of(folder)}
    config = resumed_settings(first, layers, length_too=False)
    count = config.data.folds
    is_finished = [fold in runs and runs[fold].status == "finished" for fold in range(1, count + 1)]
    if all(is_finished) and (folder / "folds.json").exists():
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
                architecture = model_config_from(first.config["resolved_model"])
                data, known = _open(chosen, emit), first.info.get("teacher")
                results.append(
                    start(chosen, data, architecture=architecture, taught=known, processes=processes, emit=emit)
                )
    return summed_up(results)


def resume_run(run: Run, layers: tuple[Settings, ...], processes: Processes, emit: Emit) -> TrainResult:
    """Go on with one run, as ``resume`` does."""
    if not has_begun(run):
        raise never_begun(run.name)
    config = resumed_settings(run, layers)
    with nullcontext() if processes.rank else only_trainer_of(run.path):
        run = Run(run.path)  # another process may have finished it before the lock was ours
        if not processes.rank:
            for folder in (run.path, *(path for path in run.path.iterdir() if path.is_dir())):
                remove_abandoned(folder, after=0)
        state = _newest_state(run, emit)
        _check_unfinished(run, config, state)
        dataset = processes.in_turn(lambda: _open(config, emit))
        if (run.split or {})["fingerprint"] != dataset.facts.fingerprint:
            raise _other_data(run, config)
        device = processes.device(config.run.device)
        seed_everything(config.run.seed, deterministic=config.run.deterministic)
        architecture = model_config_from(run.config["resolved_model"])
        if state:
            model = resumed_model(config, architecture, run.checkpoint("last"))
        else:
            model, config, _ = processes.in_turn(
                lambda: starting_model(config, dataset.facts, emit, settings=architecture)
            )
        teacher = processes.in_turn(
            lambda: load_teacher(config, dataset.facts.classes, recorded=run.info.get("teacher"), emit=emit)
        )
        plan = plan_splits(dataset, config.data, seed=config.run.seed)
        seen = preprocessing_from(run.config["preprocessing"])
        size = architecture.image_size
        data = processes.in_turn(lambda: prepare_training_data(dataset, plan, config, size, source=seen, emit=emit))
        split = json.loads(json.dumps(stored_split(dataset, plan, data)))
        if (run.split or {}) != {"schema": SCHEMA, **split}:
            raise _other_data(run, config)
        steps_per_epoch = -(-len(data.members) // config.optim.batch_size)
        recorded, images = run.info.get("computed"), len(data.members)
        model = model if will_shard(config, processes) else model.to(device)
        computing = choose_computing(
            model,
            config,
            num_images=images,
            recorded=recorded,
            parts=state.get("micro_batches", 1) if state else 1,
            processes=processes,
            emit=emit,
        )
        training = Training(
            config=config, model=model, data=data, computing=computing, teacher=teacher, processes=processes
        )
        if processes.rank:
            return train_along(training, state)
        _tell(run, config, state, steps_per_epoch, emit)
        derived = {name: run.config[name] for name in DERIVED}
        run.save_config({**settings_of(replace(config, run=replace(config.run, devices=0))), **derived})
        run.reopen()
        processes.remember(str(run.path.resolve()))
        return fit(run, training, dataset.facts, state=state, emit=emit)


def _newest_state(run: Run, emit: Emit) -> State | None:
    """The newest state that can be read; None: there never was one, for the run was stopped early.

    Raises:
        RunError: there were some, and none of them can be read.
    """
    faults: list[RunError] = []
    for path in run.states:
        try:
            if path.exists():
                return load_state(path)
        except RunError as error:
            faults.append(error)
            emit(Warned(text=f"{error.message}; the state before it is used"))
    if faults or (run.metrics and run.status != "finished"):
        raise RunError(
            f"run {run.name} has no training state that can be read",
            hint=f"vit train --init-from {run.path} starts a new run from its weights",
        )
    return None


def _check_unfinished(run: Run, config: TrainConfig, state: State | None) -> None:
    """Raises RunError where there is nothing to go on with, UsageError where it is over with fewer epochs."""
    kept = state["records"] if state else run.metrics.get("epochs", ())
    records = [EpochRecord(**record) for record in kept]
    epochs, again = config.optim.epochs, resume_command(run, config)
    begun = len(records) + bool(state and state["step"])
    if epochs < begun:
        raise UsageError(
            f"--epochs {epochs}: run {run.name} has begun epoch {begun} already", hint="give more, or none"
        )
    if run.status != "finished" or not (state is None or is_over(records, config.optim)):
        return
    longer = f"`{again} --epochs {2 * epochs}` trains on"
    if is_out_of_patience(records, config.optim):
        longer = f"`{again} --patience 0` trains on"
    anew = f"`vit train --init-from {run.path}` starts a new run from its best weights"
    raise RunError(
        f"run {run.name} is finished, after {len(records)} epochs", hint=f"{longer}, {anew}" if state else anew
    )


def _open(config: TrainConfig, emit: Emit) -> Dataset:
    return open_dataset(config.data, directory=data_dir(config.data.dir), offline=config.run.offline, emit=emit)


def _other_data(run: Run, config: TrainConfig) -> DataError:
    return DataError(
        f"{config.data.name} is not what run {run.name} began with: images or labels are new, gone or changed",
        hint=f"bring them back, or start a new run from its weights: vit train --init-from {run.path}",
    )


def _tell(run: Run, config: TrainConfig, state: State | None, steps_per_epoch: int, emit: Emit) -> None:
    """Where it goes on, and what is not as it was."""
    epoch, step = (state["epoch"], state["step"]) if state else (1, 0)
    where = f"epoch {epoch}, after step {step} of {steps_per_epoch}" if step else f"epoch {epoch}"
    emit(Note(text=f"going on with run {run.name} in {where}"))
    tell_other_versions(run, emit)
    mind_useless_steps(config.run, emit)
    before, now = stored_settings(run).optim, config.optim
    if before.epochs != now.epochs:
        done = (epoch - 1) * steps_per_epoch + step
        rates = [_learning_rate(optim, steps_per_epoch, done) for optim in (before, now)]
        text = (
            "the schedule is laid over all of them, so the learning rate of the next step is {1:.3g} instead of {0:.3g}"
            if rates[0] != rates[1]
            else "the learning rate of the next step stays {0:.3g}"
        )
        emit(Note(text=f"{now.epochs} epochs instead of {before.epochs}: {text.format(*rates)}"))


def tell_other_versions(run: Run, emit: Emit) -> None:
    """Warn where what computes is not what the run was computed with."""
    for name, now in {"torch": torch.__version__, "vitcli": __version__}.items():
        if (before := run.info["versions"].get(name)) != now:
            emit(Warned(text=f"{name} is {now}, and was {before}: the last digits may differ"))


def _learning_rate(config: OptimConfig, steps_per_epoch: int, step: int) -> float:
    """Of a step; of the last one, where the training has fewer."""
    last = config.epochs * steps_per_epoch - 1
    return learning_rate_factor(config, steps_per_epoch)(min(step, last)) * config.peak_lr
