"""Assembly of a training: everything that is decided before its first step, in the same way in every process.

New runs, resumed runs, the search for a learning rate and the dry run all begin here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from vitcli.core.config import TrainConfig
from vitcli.core.events import Emit, Warned
from vitcli.core.interrupts import StopRequest
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Preprocessing
from vitcli.data.dataset import Dataset
from vitcli.data.splits import Plan, plan_splits
from vitcli.data.store import preview_of
from vitcli.engine.device import seed_everything
from vitcli.engine.distillation import Distillation
from vitcli.engine.distributed import Processes
from vitcli.engine.growth import build_growth
from vitcli.engine.mixing import Mixing
from vitcli.engine.protocols import TrainBatches
from vitcli.engine.state import State
from vitcli.engine.trainer import Trainer
from vitcli.models.finetune import HeadOnly
from vitcli.models.vit import VisionTransformer
from vitcli.training.advice import advice_on_data, advice_on_settings
from vitcli.training.computing import Computing, choose_computing, will_shard, with_micro_batches
from vitcli.training.features import feature_batches
from vitcli.training.images import TrainingData, image_batches, prepare_training_data
from vitcli.training.saving import NoSaver, RunSaver
from vitcli.training.starting_model import resumed_model, starting_model
from vitcli.training.teacher import Teacher, distillation_by, load_teacher


@dataclass(frozen=True, kw_only=True, slots=True)
class Earlier:
    """The decisions of an earlier run that a training takes over."""

    architecture: ModelConfig | None = None
    preprocessing: Preprocessing | None = None
    computed: Mapping[str, Any] | None = None
    """``Computing.record`` of the earlier run; on the same machine, the training computes in the same way."""
    teacher: Mapping[str, Any] | None = None
    """``Teacher.record`` of the earlier run; the teacher must have the same weights."""
    state: State | None = None
    """The training state to resume from; it needs ``architecture`` and ``last`` too."""
    last: Path | None = None
    """The last checkpoint; it contains the weights of a frozen backbone, which a training state lacks."""


NOTHING = Earlier()


@dataclass(frozen=True, kw_only=True, slots=True)
class Beginning:
    """The part of a training that does not need decoded images."""

    config: TrainConfig
    """The complete configuration, with the name of the architecture."""
    model: VisionTransformer
    """The model, on the CPU."""
    seen: Preprocessing | None
    """The preprocessing that the weights expect; None: the weights are random."""
    teacher: Teacher | None
    plan: Plan
    """The images for training, validation and test."""


def begin(
    config: TrainConfig, dataset: Dataset, *, earlier: Earlier = NOTHING, processes: Processes, emit: Emit
) -> Beginning:
    """Seed everything, build the model, load the teacher, and plan the splits.

    Args:
        config: the complete configuration.
        dataset: the data set of the configuration.
        earlier: the decisions of an earlier run.
        processes: the processes that train together.
        emit: receives notes about weights and teacher.

    Raises:
        UsageError, ModelError, RunError, DataError: weights or a teacher cannot be found or read, or do not fit.
    """
    facts = dataset.facts
    seed_everything(config.run.seed, deterministic=config.run.deterministic)
    source = None
    if earlier.state:
        assert earlier.architecture and earlier.last  # noqa: PT018 - both belong to a state
        model = resumed_model(config, earlier.architecture, earlier.last)
    else:
        given = config
        model, config, source = processes.in_turn(
            lambda: starting_model(given, facts, emit, settings=earlier.architecture)
        )
    teacher = processes.in_turn(lambda: load_teacher(config, facts.classes, recorded=earlier.teacher, emit=emit))
    return Beginning(
        config=config,
        model=model,
        seen=earlier.preprocessing or (source.preprocessing if source else None),
        teacher=teacher,
        plan=plan_splits(dataset, config.data, seed=config.run.seed),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """A training that is ready to start: everything is decided, in the same way in every process."""

    config: TrainConfig
    dataset: Dataset
    plan: Plan
    model: VisionTransformer
    """The model, on its device; on the CPU if it will be sharded."""
    data: TrainingData
    computing: Computing
    teacher: Teacher | None = None
    """The model to learn from, besides the labels; None: there is none."""
    processes: Processes
    """The processes that train together."""

    def trainer(self, *, features: Path, saver: RunSaver | NoSaver | None, emit: Emit, stop: StopRequest) -> Trainer:
        """Build the trainer of the model, or of its head alone if a frozen backbone sees each image only once.

        Args:
            features: the cache file for the features of a frozen backbone.
            saver: the saver of checkpoints and metrics; None: nothing is saved.
            emit: receives the progress.
            stop: the stop request.
        """
        # Make the batches: of features if only the head is trained, else of images
        config, model, data, computing = self.config, self.model, self.data, self.computing
        device = computing.device
        image_size, patch_size = model.config.image_size, model.config.patch_size
        trained: nn.Module = model
        train_batches: TrainBatches
        if config.sees_images_once:
            if saver:
                saver.backbone = model.state_dict()
            trained = HeadOnly(model)
            train_batches, val_batches = self.processes.in_turn(
                lambda: feature_batches(
                    model,
                    data,
                    config,
                    device=device,
                    precision=computing.inference,
                    cache=features,
                    place=self.processes.place,
                    emit=emit,
                    stop=stop,
                )
            )
        else:
            train_batches, val_batches = image_batches(data, config, device, self.processes.place)
        return Trainer(
            trained,
            train=train_batches,
            val=val_batches,
            config=replace(config.optim, grad_accum_steps=computing.micro_batches),
            mixing=Mixing(mixup=config.augment.mixup, cutmix=config.augment.cutmix, seed=config.run.seed),
            precision=computing.training,
            saver=saver,
            emit=emit,
            stop=self.processes.agreed(stop),
            seed=config.run.seed,
            save_steps=config.run.save_steps,
            log_steps=config.run.log_steps if config.run.tensorboard or config.run.wandb else 0,
            class_weights=data.class_weights,
            val_precision=computing.inference,
            forward=computing.forward,
            growth=build_growth(config.optim, image_size=image_size, patch_size=patch_size),
            distillation=self.distillation,
            processes=self.processes,
            shard=computing.shard,
            preview=preview_of(config.data),
        )

    @property
    def distillation(self) -> Distillation | None:
        """The distillation loss; None: there is no teacher."""
        return distillation_by(self.teacher, self.config.teacher, self.model.config, self.data.preprocessing)


def assemble(
    config: TrainConfig,
    dataset: Dataset,
    *,
    earlier: Earlier = NOTHING,
    advises: bool = False,
    check_images: Callable[[Plan, TrainingData], None] | None = None,
    processes: Processes,
    emit: Emit,
) -> Training:
    """Decide everything that must be decided before the first step, and prepare the images.

    All processes of a distributed training must call the collective operations in the same order: those of ``begin``,
    of the preparation of images, and of ``choose_computing``.

    Args:
        config: the complete configuration.
        dataset: the data set of the configuration.
        earlier: the decisions of an earlier run.
        advises: warn of settings and images that are probably a mistake.
        check_images: raises an error if the images are wrong, before anything is measured or compiled.
        processes: the processes that train together.
        emit: receives the progress.

    Raises:
        UsageError, ModelError, RunError, DataError, DeviceError: settings contradict each other, or something does not
            exist or cannot be read.
        TrainingError: a step does not fit into memory, or ``--compile on`` does not work here.
    """
    device = processes.device(config.run.device)
    begun = begin(config, dataset, earlier=earlier, processes=processes, emit=emit)
    config, model, teacher, plan = begun.config, begun.model, begun.teacher, begun.plan

    # Prepare the images, and warn about images and settings
    for warning in advice_on_data(dataset, plan, config) if advises else ():
        emit(Warned(text=warning))
    size = model.config.image_size
    data = processes.in_turn(
        lambda: prepare_training_data(dataset, plan, begun.config, size, source=begun.seen, emit=emit)
    )
    if check_images:
        check_images(plan, data)
    for warning in advice_on_settings(config, model.config, source=begun.seen, data=data) if advises else ():
        emit(Warned(text=warning))

    # Decide how to compute: on which device, in how many micro-batches, in which precision, compiled or not
    if not will_shard(config, processes):
        model = model.to(device)
    if not earlier.state:
        config = with_micro_batches(
            model,
            config,
            lambda: image_batches(data, begun.config, device)[0],
            distillation=distillation_by(teacher, config.teacher, model.config, data.preprocessing),
            emit=emit,
        )
    computing = choose_computing(
        model,
        config,
        num_images=len(data.members),
        recorded=earlier.computed,
        micro_batches=earlier.state.get("micro_batches", 1) if earlier.state else 1,
        processes=processes,
        emit=emit,
    )
    return Training(
        config=config,
        dataset=dataset,
        plan=plan,
        model=model,
        data=data,
        computing=computing,
        teacher=teacher,
        processes=processes,
    )
