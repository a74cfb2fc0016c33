"""Resuming of a run that was interrupted, was killed or failed, as if that had not happened."""

import json
import shlex
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from vitcli.core.config import DataConfig, TrainConfig
from vitcli.core.config_files import Settings, settings_of
from vitcli.core.errors import DataError, RunError, counted
from vitcli.core.events import Emit, EpochRecord, Note, Warned
from vitcli.core.files import remove_abandoned
from vitcli.core.fingerprints import is_same_data
from vitcli.core.model_config import ModelConfig
from vitcli.core.optim_config import OptimConfig
from vitcli.core.runs import SCHEMA, Run
from vitcli.core.version import __version__
from vitcli.data.dataset import open_dataset
from vitcli.data.splits import Plan
from vitcli.data.store import data_dir
from vitcli.engine.checkpoint import is_calibrated, model_config_from, preprocessing_from
from vitcli.engine.distributed import Processes
from vitcli.engine.schedule import learning_rate_factor
from vitcli.engine.state import State, newest_state
from vitcli.engine.stopping import is_out_of_patience, is_over
from vitcli.training.assembly import Earlier, assemble
from vitcli.training.groups import forget_summary
from vitcli.training.images import TrainingData
from vitcli.training.loggers import mind_useless_steps
from vitcli.training.result import TrainResult, result_of
from vitcli.training.resumed_settings import DERIVED, has_begun, never_begun, resumed_settings, stored_settings
from vitcli.training.run import fit, only_trainer_of, stored_split, train_along
from vitcli.training.saving import resume_command
from vitcli.training.study import study_of

Part = TypeVar("Part")


def architecture_of(run: Run) -> ModelConfig:
    """Return the architecture that a run trained; raise RunError if its ``config.json`` is broken."""
    return _derived(run, "resolved_model", model_config_from)


def _derived(run: Run, name: str, build: Callable[[Mapping[str, Any]], Part]) -> Part:
    try:
        return build(run.config[name])
    except KeyError:
        raise RunError(f"{run.path / 'config.json'} is broken: {name} is missing") from None
    except ValueError as error:
        raise RunError(f"{run.path / 'config.json'} is broken: {error}") from None


def resume_begun(path: Path, processes: Processes, emit: Emit) -> TrainResult:
    """Resume the run that this launch began before its processes were restarted; return its result."""
    run = Run(path)
    return result_of(run) if run.status == "finished" else resume_run(run, (), processes, emit)


def resume_run(run: Run, layers: tuple[Settings, ...], processes: Processes, emit: Emit) -> TrainResult:
    """Resume one run that is not a group; see ``workflows.resume``."""
    if not has_begun(run):
        raise never_begun(run.path.resolve().parent.name if run.is_member else run.name)
    config = resumed_settings(run, layers)
    with nullcontext() if processes.rank else only_trainer_of(run.path):
        run = Run(run.path)  # another process may have finished it before this one got the lock
        if not processes.rank:
            for folder in (run.path, *(path for path in run.path.iterdir() if path.is_dir())):
                remove_abandoned(folder, after=0)

        # Load the state, and check that the images are the same as before
        state = _newest_state(run, emit)
        _check_unfinished(run, config, state)
        dataset = processes.in_turn(
            lambda: open_dataset(
                config.data, directory=data_dir(config.data.dir), offline=config.run.offline, emit=emit
            )
        )
        if not is_same_data(run.fingerprint, dataset.facts.fingerprint):
            raise other_data(run, config.data)
        earlier = Earlier(
            architecture=architecture_of(run),
            preprocessing=_derived(run, "preprocessing", preprocessing_from),
            computed=run.info.get("computed"),
            teacher=run.info.get("teacher"),
            state=state,
            last=run.checkpoint("last"),
        )

        def check_images(plan: Plan, data: TrainingData) -> None:
            split = json.loads(json.dumps(stored_split(dataset, plan, data)))
            kept = run.split or {}
            if kept != {"schema": SCHEMA, **split, "fingerprint": kept.get("fingerprint")}:  # compared already
                raise other_data(run, config.data)
            if run.info.get("class_weights", data.listed_weights) != data.listed_weights:
                raise RunError(
                    f"the weights of classes are not those that run {run.name} began with",
                    hint=f"restore {stored_settings(run).optim.class_weights}, or --class-weights FILE names the old ones",
                )

        # Continue training
        training = assemble(config, dataset, earlier=earlier, check_images=check_images, processes=processes, emit=emit)
        if processes.rank:
            return train_along(training, state)
        config = _with_known_micro_batches(training.config, run, emit)
        _tell(run, config, state, -(-len(training.data.members) // config.optim.batch_size), emit)
        derived = {name: run.config[name] for name in DERIVED}
        run.save_config({**settings_of(replace(config, run=replace(config.run, devices=0))), **derived})
        run.reopen()
        if run.is_member:
            forget_summary(run.path.parent)
        processes.remember(str(run.path.resolve()))
        return fit(run, training, state=state, emit=emit)


def _with_known_micro_batches(config: TrainConfig, run: Run, emit: Emit) -> TrainConfig:
    """Return the settings with the number of micro-batches that the run has, if another one should have been measured."""
    if config.optim.grad_accum_steps:
        return config
    parts = stored_settings(run).optim.grad_accum_steps
    emit(Warned(text=f"the run has begun, so micro-batches are not measured again: a batch stays in {parts}"))
    return replace(config, optim=replace(config.optim, grad_accum_steps=parts))


def _newest_state(run: Run, emit: Emit) -> State | None:
    """Load the newest training state that can be read; None: there is none.

    A run that stopped before its first save has no state, and a finished run may lack it.

    Raises:
        RunError: the states of an unfinished run are missing, or none of them can be read.
    """
    state, faults = newest_state(run.states, emit)
    if not state and (faults or (run.metrics and run.status != "finished")):
        raise RunError(
            f"run {run.name} has no training state that can be read",
            hint=f"vit train --init-from {shlex.quote(str(run.path))} starts a new run from its weights",
        )
    return state


def _check_unfinished(run: Run, config: TrainConfig, state: State | None) -> None:
    """Check that the run is not finished and has not begun more epochs than are wanted."""
    kept = state["records"] if state else run.metrics.get("epochs", ())
    records = [EpochRecord(**record) for record in kept]
    epochs, again = config.optim.epochs, resume_command(run, config.run)
    begun = len(records) + bool(state and state["step"])
    if epochs < begun:
        raise RunError(
            f"--epochs {epochs}: run {run.name} has already begun epoch {begun}", hint="give a larger number, or none"
        )
    if run.status != "finished" or not (state is None or is_over(records, config.optim)):
        return
    longer = f"`{again} --epochs {2 * epochs}` continues it"
    if is_out_of_patience(records, config.optim):
        longer = f"`{again} --patience 0` continues it"
    afresh = f"`vit train --init-from {shlex.quote(str(run.path))}` starts a new run from its best weights"
    raise RunError(
        f"run {run.name} is finished, after {counted(len(records), 'epoch')}",
        hint=f"{longer}, {afresh}" if state and not study_of(run.path) else afresh,
    )


def other_data(run: Run, config: DataConfig) -> DataError:
    """Return the error that the data are not those that a run began with."""
    return DataError(
        f"{config.name} is not the data of run {run.name}: images, labels or the order of classes changed",
        hint=f"restore them, or start a new run from its weights: vit train --init-from {shlex.quote(str(run.path))}",
    )


def _tell(run: Run, config: TrainConfig, state: State | None, steps_per_epoch: int, emit: Emit) -> None:
    """Report where training continues, and what has changed since the run began."""
    epoch, step = (state["epoch"], state["step"]) if state else (1, 0)
    where = f"epoch {epoch}, after step {step} of {steps_per_epoch}" if step else f"epoch {epoch}"
    emit(Note(text=f"resuming run {run.name} in {where}"))
    if is_calibrated(run.best_checkpoint):
        again = f"`vit eval --calibrate --model {shlex.quote(str(run.path))}` calibrates it again"
        emit(Warned(text=f"{run.name} is calibrated; if training finds a better epoch, that one is not: {again}"))
    tell_other_versions(run.info["versions"], emit)
    mind_useless_steps(config.run, emit)
    before, now = stored_settings(run).optim, config.optim
    if now.class_weights and now.label_smoothing and "class_weights" not in run.info:
        why = "with label smoothing, an image now counts by the weight of its own class alone"
        emit(Warned(text=f"the training loss differs from that of earlier epochs: {why}"))
    parts = state.get("micro_batches", 1) if state else 1
    if now.grad_accum_steps != before.grad_accum_steps and 0 < now.grad_accum_steps < parts:
        kept = f"the run goes on with {parts} micro-batches, which may be needed to fit into memory"
        emit(Warned(text=f"--grad-accum-steps {now.grad_accum_steps} has no effect: {kept}"))
    if before.epochs != now.epochs:
        tell_other_schedule(before, now, steps_per_epoch, epoch=epoch, step=step, emit=emit)
        first = now.epochs - now.swa_epochs + 1
        if now.swa_epochs and epoch > first:
            left = counted(now.epochs - epoch + 1, "epoch")
            emit(
                Warned(text=f"the average of the last {now.swa_epochs} epochs will have only the {left} still to come")
            )
        elif now.swa_epochs and state and state["average"]:
            emit(Note(text=f"the average of the weights begins again, with epoch {first}"))


def tell_other_schedule(
    before: OptimConfig, now: OptimConfig, steps_per_epoch: int, *, epoch: int, step: int, emit: Emit
) -> None:
    """Say how the schedule changes with the number of epochs, for a training that continues after a step of an epoch."""
    done = (epoch - 1) * steps_per_epoch + step
    rates = [_learning_rate(optim, steps_per_epoch, done) for optim in (before, now)]
    text = (
        "the schedule is adjusted, so the learning rate of the next step is {1:.3g} instead of {0:.3g}"
        if rates[0] != rates[1]
        else "the learning rate of the next step stays {0:.3g}"
    )
    if now.progressive:
        text += "; the sizes of images (--progressive) are spread over all epochs again, so they may shrink"
    emit(Note(text=f"{counted(now.epochs, 'epoch')} instead of {before.epochs}: {text.format(*rates)}"))


def tell_other_versions(versions: Mapping[str, str], emit: Emit) -> None:
    """Warn if the versions of torch or vitcli are not those with which a training began."""
    for name, now in {"torch": torch.__version__, "vitcli": __version__}.items():
        if (before := versions.get(name)) != now:
            emit(Warned(text=f"{name} is {now}, and was {before}: the last digits may differ"))


def _learning_rate(config: OptimConfig, steps_per_epoch: int, step: int) -> float:
    """Compute the learning rate of a step, or of the last step if the training has fewer."""
    last = config.epochs * steps_per_epoch - 1
    return learning_rate_factor(config, steps_per_epoch)(min(step, last)) * config.peak_lr
