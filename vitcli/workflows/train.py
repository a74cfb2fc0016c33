"""Train a Vision Transformer: settings to a run on disk."""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from vitcli.core.config import TrainConfig
from vitcli.core.config_files import Settings, configure, settings_of
from vitcli.core.errors import Interrupted, RunError, UsageError
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.interrupts import stop_requests
from vitcli.core.model_config import ModelConfig
from vitcli.core.runs import Run, free_cross_validation, next_name, slug
from vitcli.data.dataset import Dataset, Facts
from vitcli.data.locks import alone_in
from vitcli.data.splits import Plan, plan_splits, stored_plan
from vitcli.engine.device import describe, seed_everything
from vitcli.engine.distributed import Processes, joined
from vitcli.engine.hardware import hardware, library_versions
from vitcli.engine.state import State
from vitcli.engine.trainer import Trainer
from vitcli.figures.curves import draw_curves
from vitcli.models.registry import num_parameters
from vitcli.trained.precision import choose_computing, will_shard
from vitcli.training.advice import diagnosis, quick_warnings
from vitcli.training.assembly import Training, image_batches
from vitcli.training.images import TrainingData, prepare_training_data
from vitcli.training.loggers import logged
from vitcli.training.micro_batches import with_parts
from vitcli.training.result import TrainResult, result_of
from vitcli.training.saving import NoSaver, RunSaver, resume_command
from vitcli.training.settings import settle
from vitcli.training.starting_model import starting_model
from vitcli.training.teacher import load_teacher


def train(*layers: Settings, emit: Emit = ignore) -> TrainResult:
    """Train a model and keep it as a run.

    Args:
        layers: settings, the later the stronger: ``{"data": {"name": "digits"}, "optim": {"epochs": 3}}``. Below
            them lies the recipe that ``run.recipe`` names, else the data set's own; below that the defaults.
        emit: told about the progress.

    Raises:
        UsageError, DataError, ModelError, RunError, DeviceError: before anything is written.
        TrainingError, Interrupted: the run is marked so, and keeps its checkpoints.
    """
    asked = configure(*layers).run
    with joined(asked.devices, shard=asked.shard) as processes:
        emit = ignore if processes.rank else emit
        if begun := processes.begun_run:  # these were started in place of some that were lost
            return resume_begun(Path(begun), processes, emit)
        config, dataset = processes.in_turn(lambda: settle(layers, emit))
        return start(config, dataset, processes=processes, emit=emit)


def resume_begun(path: Path, processes: Processes, emit: Emit) -> TrainResult:
    """Go on with the run that processes had begun which are lost."""
    from vitcli.workflows.resume import resume_run

    run = Run(path)
    return result_of(run) if run.status == "finished" else resume_run(run, (), processes, emit)


def start(
    config: TrainConfig,
    dataset: Dataset,
    *,
    architecture: ModelConfig | None = None,
    computed: Mapping[str, Any] | None = None,
    taught: Mapping[str, Any] | None = None,
    processes: Processes,
    emit: Emit = ignore,
) -> TrainResult:
    """Make a run, and train in it.

    Args:
        config: the whole configuration.
        dataset: its data set.
        architecture: of the model, where it is known already.
        computed: as an earlier run recorded it; on the same machine it is computed so again.
        taught: ``Teacher.record`` of another fold, whose teacher it has to be.
        processes: those that train together.
        emit: told about the progress.

    Raises:
        UsageError: several processes are to find out into how many parts a batch is cut.
    """
    if processes.size > 1 and not config.optim.grad_accum_steps:
        raise UsageError(
            "--batch-size auto is for one device",
            hint="--grad-accum-steps 2 has each of several cut its share of a batch into two parts",
        )
    device = processes.device(config.run.device)
    output_dir = Path(config.run.output_dir).expanduser()
    seed_everything(config.run.seed, deterministic=config.run.deterministic)

    facts = dataset.facts
    model, config, source = processes.in_turn(lambda: starting_model(config, facts, emit, settings=architecture))
    teacher = processes.in_turn(lambda: load_teacher(config, facts.classes, recorded=taught, emit=emit))
    plan = plan_splits(dataset, config.data, seed=config.run.seed)
    for warning in quick_warnings(dataset, plan, config):
        emit(Warned(text=warning))
    seen = source.preprocessing if source else None
    size = model.config.image_size
    data = processes.in_turn(lambda: prepare_training_data(dataset, plan, config, size, source=seen, emit=emit))
    for warning in diagnosis(config, model.config, source=seen, data=data):
        emit(Warned(text=warning))
    config = with_parts(
        model if will_shard(config, processes) else model.to(device),
        config,
        lambda: image_batches(data, config, device)[0],
        distillation=teacher.distillation(config, model.config, data.preprocessing) if teacher else None,
        emit=emit,
    )
    images = len(data.members)
    computing = choose_computing(model, config, num_images=images, recorded=computed, processes=processes, emit=emit)
    training = Training(
        config=config, model=model, data=data, computing=computing, teacher=teacher, processes=processes
    )
    if processes.rank:
        return train_along(training)

    stem = f"{slug(facts.name)}-{config.model.name}"
    fold = config.data.fold or int(bool(config.data.folds))
    name = config.run.name or (free_cross_validation(output_dir, stem, fold) if fold > 1 else "")
    name = name or next_name(output_dir, stem)
    path = output_dir / name / f"fold-{fold}" if fold else output_dir / name
    if config.run.overwrite and (path / "run.json").exists():
        with only_trainer_of(path):
            pass
    run = Run.create(
        path,
        seed=config.run.seed,
        versions=library_versions(),
        summary={
            "dataset": facts.name,
            "model": config.model.name,
            "recipe": config.run.recipe,
            "computed": computing.record,
            "hardware": hardware(),
            "teacher": teacher.record if teacher else None,
        },
        overwrite=config.run.overwrite,
    )
    with only_trainer_of(path):
        resolved = {"resolved_model": asdict(model.config), "preprocessing": asdict(data.preprocessing)}
        settings = settings_of(replace(config, run=replace(config.run, overwrite=False, devices=0)))  # which is done
        run.save_config({**settings, **resolved})
        run.save_split(stored_split(dataset, plan, data))
        processes.remember(str(run.path.resolve()))
        return fit(run, training, facts, emit=emit)


def stored_split(dataset: Dataset, plan: Plan, data: TrainingData) -> dict[str, Any]:
    """Which images were held out, and which are not used, as a run keeps it."""
    left_out = dict(dataset.raw.left_out) if dataset.raw else {}
    return {**stored_plan(plan, dataset), "skipped": data.skipped, "left_out": left_out}


def only_trainer_of(path: Path) -> AbstractContextManager[None]:
    """Refuse to train in a run that another process is training."""
    busy = RunError(f"another process is training {path}", hint="wait for it, or stop it with Ctrl-C")
    return alone_in(path, otherwise=busy)


def fit(run: Run, training: Training, facts: Facts, *, state: State | None = None, emit: Emit = ignore) -> TrainResult:
    """Train in a run's directory, and mark the run with how that ended.

    Args:
        run: the run; no other process may train in it.
        training: what is trained; this is the first process.
        facts: about the data set.
        state: to go on from; None: training begins.
        emit: told about the progress.
    """
    config, data, computing, processes = training.config, training.data, training.computing, training.processes
    together = f", {processes.size} processes" if processes.size > 1 else ""
    together += ", each with a part of the model" if computing.shard else ""
    emit(Note(text=f"run: {run.path} on {describe(computing.device)}{together}"))
    cores = os.cpu_count() or 1
    if computing.device.type == "cpu" and processes.place.local_size > cores:
        emit(Warned(text=f"{processes.place.local_size} processes share {cores} cores: --devices {cores} is as fast"))
    seconds = max(state["seconds"], run.info.get("seconds", 0.0)) if state else 0.0
    model = training.model.config
    saver = RunSaver(run, config, model, facts, data.preprocessing, computed=computing.record, seconds=seconds)
    trainer: Trainer | None = None
    processes.how_to_go_on = f"`{resume_command(run, config)}` goes on"
    with logged(run, config, emit) as tell, run.recorded(), stop_requests(processes.how_to_go_on) as stop:
        images = {"train": len(data.members), "val": len(data.val_members), "test": data.test_images}
        parameters = num_parameters(model)
        run.note(
            device=str(computing.device),
            processes=processes.size,
            computed=computing.record,
            parameters=parameters,
            classes=len(facts.classes),
            images=images,
        )
        try:
            processes.broadcast((run, _place(state)))
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
                with suppress(OSError):  # a full disk is told of already, and a figure is not worth an error
                    draw_curves(trainer.records, run.figure("curves"), title=run.name)
    run.states[1].unlink(missing_ok=True)
    result = result_of(run)
    processes.broadcast(result)
    return result


def train_along(training: Training, state: State | None = None) -> TrainResult:
    """Train as one of several processes, the first of which keeps the run."""
    processes = training.processes
    run, place = processes.broadcast()
    if place != _place(state):  # as on a network disk that is behind
        raise RunError(
            f"process {processes.rank} has read another training state than the first one",
            hint="runs have to be in a folder that all machines see alike; wait a moment, then try again",
        )
    with stop_requests() as stop:
        trainer = training.trainer(features=run.cache("features"), saver=NoSaver(), emit=ignore, stop=stop)
        if state:
            trainer.load_state_dict(state)
        trainer.fit()
    result: TrainResult = processes.broadcast()
    return result


def _place(state: State | None) -> tuple[int, int] | None:
    return (state["epoch"], state["step"]) if state else None
