"""Training in a run directory: the run is made, trained, and marked as finished, interrupted or failed."""

import os
import re
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import settings_of
from vitcli.core.errors import Interrupted, RunError, UsageError
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.files import expanded
from vitcli.core.fingerprints import is_same_data
from vitcli.core.groups import member_folder, members_of_settings
from vitcli.core.interrupts import stop_requests
from vitcli.core.run_search import free_cross_validation, members_of, next_name
from vitcli.core.runs import Run, slug
from vitcli.data.dataset import Dataset
from vitcli.data.locks import alone_in
from vitcli.data.splits import Plan, stored_plan
from vitcli.data.submission import competition_folder
from vitcli.engine.device import describe
from vitcli.engine.distributed import Processes
from vitcli.engine.hardware import hardware, library_versions
from vitcli.engine.state import State
from vitcli.engine.trainer import Trainer
from vitcli.figures.curves import draw_curves
from vitcli.trained.model_names import check_new_name
from vitcli.training.advice import why_losses_differ
from vitcli.training.assembly import NOTHING, Earlier, Training, assemble
from vitcli.training.duration import training_ahead
from vitcli.training.groups import forget_summary
from vitcli.training.images import TrainingData
from vitcli.training.loggers import logged
from vitcli.training.result import TrainResult, result_of
from vitcli.training.resumed_settings import has_begun, stored_settings
from vitcli.training.saving import NoSaver, RunSaver, resume_command
from vitcli.training.stated_settings import class_weights_of


def start(
    config: TrainConfig, dataset: Dataset, *, earlier: Earlier = NOTHING, processes: Processes, emit: Emit
) -> TrainResult:
    """Start a new run: create its directory, train, and return the result.

    Args:
        config: the complete configuration.
        dataset: the data set of the configuration.
        earlier: the decisions of an earlier run.
        processes: the processes that train together.
        emit: receives the progress.

    Raises:
        UsageError: ``--batch-size auto`` is used with several processes.
    """
    if processes.size > 1 and not config.optim.grad_accum_steps:
        raise UsageError(
            "--batch-size auto is for one device",
            hint="--grad-accum-steps 2 makes each device cut its share of a batch into two micro-batches",
        )
    training = assemble(config, dataset, earlier=earlier, advises=True, processes=processes, emit=emit)
    if processes.rank:
        return train_along(training)
    if ahead := training_ahead(training):
        emit(ahead)
    run = _new_run(training)
    with only_trainer_of(run.path):
        resolved = {
            "resolved_model": asdict(training.model.config),
            "preprocessing": asdict(training.data.preprocessing),
        }
        config = training.config
        settings = settings_of(replace(config, run=replace(config.run, overwrite=False, devices=0)))  # already applied
        run.save_config({**settings, **resolved})
        run.save_split(stored_split(dataset, training.plan, training.data))
        processes.remember(str(run.path.resolve()))
        return fit(run, training, emit=emit)


def _new_run(training: Training) -> Run:
    """Create the directory of a run, with the given name or the next free one."""
    check_new_name(training.config.run.name)
    config, facts = training.config, training.dataset.facts
    output_dir = expanded(config.run.output_dir)
    stem = re.sub("-+", "-", f"{slug(facts.name)}-{training.model.config.name}")
    assert not members_of_settings(config)  # `train_group` starts one run for each member
    fold, member = config.data.fold, member_folder(config)
    name = config.run.name or (free_cross_validation(output_dir, stem, fold) if fold > 1 else "")
    if not config.run.name and name and not all(_is_alike(each, training) for each in members_of(output_dir / name)):
        name = ""  # those are folds of another cross-validation
    name = name or next_name(output_dir, stem)
    path = output_dir / name / member
    if config.run.overwrite and (path / "run.json").exists():
        with only_trainer_of(path):
            pass
    if member:
        forget_summary(path.parent)
    return Run.create(
        path,
        seed=config.run.seed,
        versions=library_versions(),
        summary={
            "dataset": facts.name,
            "model": training.model.config.name,
            "recipe": config.run.recipe,
            "fingerprint": facts.fingerprint,
            "fold": fold,
            "nth_seed": config.run.nth_seed,
            "computed": training.computing.record,
            "hardware": hardware(),
            "teacher": training.teacher.record if training.teacher else None,
            "class_weights": training.data.listed_weights,
        },
        overwrite=config.run.overwrite,
    )


def _is_alike(fold: Run, training: Training) -> bool:
    """Tell whether a fold is one of the cross-validation that a training belongs to: nothing but the fold differs."""
    config = training.config
    if not has_begun(fold):
        return True
    try:
        theirs = stored_settings(fold)
    except RunError:
        return False
    places = {
        name: getattr(config.data, name) for name in ("name", "dir", "labels", "label_map", "fold", "workers", "cache")
    }
    data = replace(theirs.data, **places)
    optim = replace(
        theirs.optim, grad_accum_steps=config.optim.grad_accum_steps, class_weights=class_weights_of(theirs)
    )
    run = replace(config.run, seed=theirs.run.seed, init_from=theirs.run.init_from)
    is_same = replace(theirs, data=data, optim=optim, run=run) == config
    return is_same and is_same_data(fold.fingerprint, training.dataset.facts.fingerprint)


def stored_split(dataset: Dataset, plan: Plan, data: TrainingData) -> dict[str, Any]:
    """Return the held-out images and the images that are not used, as a run stores them."""
    left_out = dict(dataset.raw.left_out) if dataset.raw else {}
    return {**stored_plan(plan, dataset), "skipped": data.skipped, "left_out": left_out}


def only_trainer_of(path: Path) -> AbstractContextManager[None]:
    """Lock a run for training; raise RunError if another process is training it."""
    busy = RunError(f"another process is training {path}", hint="wait for it, or stop it with Ctrl-C")
    return alone_in(path, otherwise=busy)


def fit(run: Run, training: Training, *, state: State | None = None, emit: Emit) -> TrainResult:
    """Train in a run's directory, mark the run as finished, interrupted or failed, and return its result.

    Args:
        run: the run, locked by this process.
        training: the assembled training; this is the first of its processes.
        state: the training state to resume from; None: start from the beginning.
        emit: receives the progress.
    """
    config, data, computing, processes = training.config, training.data, training.computing, training.processes
    facts = training.dataset.facts

    # Report the device, and warn of processes that share cores
    together = f", {processes.size} processes" if processes.size > 1 else ""
    together += ", each with a shard of the model" if computing.shard else ""
    emit(Note(text=f"run: {run.path} on {describe(computing.device)}{together}"))
    cores = os.cpu_count() or 1
    if computing.device.type == "cpu" and processes.place.local_size > cores:
        emit(Warned(text=f"{processes.place.local_size} processes share {cores} cores: --devices {cores} is as fast"))

    # Train; at any end, store the time, the number of micro-batches and the curves
    seconds = max(state["seconds"], run.info.get("seconds", 0.0)) if state else 0.0
    model = training.model.config
    saver = RunSaver(run, config, model, facts, data.preprocessing, computed=computing.record, seconds=seconds)
    trainer: Trainer | None = None
    processes.how_to_resume = f"`{resume_command(run, config.run)}` continues the run"
    with logged(run, config, emit) as tell, run.recorded(), stop_requests(processes.how_to_resume) as stop:
        images = {"train": len(data.members), "val": len(data.val_members), "test": data.test_images}
        parameters = model.num_parameters
        run.note(
            device=str(computing.device),
            processes=processes.size,
            computed=computing.record,
            parameters=parameters,
            classes=len(facts.classes),
            images=images,
            is_competition=competition_folder(training.dataset) is not None,
        )
        try:
            processes.broadcast((run, _position(state)))
            trainer = training.trainer(features=run.cache("features"), saver=saver, emit=tell, stop=stop)
            if state:
                trainer.load_state_dict(state)
                saver.publish(state)
            trainer.fit()
            saver.wait()
        except Interrupted:
            saver.wait()
            raise
        finally:
            saver.close()
            run.info["seconds"] = saver.seconds
            if trainer:
                run.info["micro_batches"] = trainer.micro_batches.count
            if trainer and trainer.records:
                # A full disk or a folder that is gone is already reported, and a figure is not worth an error
                with suppress(OSError, RunError):
                    run.require_folder()
                    note = why_losses_differ(training.config, model)
                    keeps_last = training.config.optim.keep == "last"
                    draw_curves(trainer.records, run.figure("curves"), title=run.name, note=note, keeps_last=keeps_last)
    run.states[1].unlink(missing_ok=True)
    result = result_of(run)
    processes.broadcast(result)
    return result


def train_along(training: Training, state: State | None = None) -> TrainResult:
    """Train as one of the processes that do not save; return the result that the first process sends."""
    processes = training.processes
    run, place = processes.broadcast()
    if place != _position(state):  # for example on a network disk that shows an old version
        raise RunError(
            f"process {processes.rank} has read another training state than the first one",
            hint="runs have to be in a folder that all machines share; wait a moment, then try again",
        )
    with stop_requests() as stop:
        trainer = training.trainer(features=run.cache("features"), saver=NoSaver(), emit=ignore, stop=stop)
        if state:
            trainer.load_state_dict(state)
        trainer.fit()
    result: TrainResult = processes.broadcast()
    return result


def _position(state: State | None) -> tuple[int, int] | None:
    return (state["epoch"], state["step"]) if state else None
