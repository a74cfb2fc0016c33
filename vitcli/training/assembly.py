"""From a configuration to a trainer: its batches, and what it is taught by."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from vitcli.core.config import TrainConfig
from vitcli.core.events import Emit, ignore
from vitcli.core.interrupts import StopRequest
from vitcli.core.launch import ALONE, Place
from vitcli.data.augment import TrainTransform
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.engine.device import Precision
from vitcli.engine.distillation import Distillation
from vitcli.engine.distributed import Processes
from vitcli.engine.growth import build_growth
from vitcli.engine.mixing import Mixing
from vitcli.engine.protocols import TrainBatches
from vitcli.engine.trainer import Trainer
from vitcli.models.finetune import HeadOnly
from vitcli.models.vit import VisionTransformer
from vitcli.trained.precision import Computing
from vitcli.training.features import feature_batches
from vitcli.training.images import TrainingData
from vitcli.training.saving import NoSaver, RunSaver
from vitcli.training.teacher import Teacher

_EVAL_BATCH = 512


@dataclass(frozen=True, kw_only=True, slots=True)
class Training:
    """All that is settled before the first step, in every process alike."""

    config: TrainConfig
    model: VisionTransformer
    """On its device, or about to be sharded."""
    data: TrainingData
    computing: Computing
    teacher: Teacher | None = None
    """Whom the model learns from besides labels."""
    processes: Processes
    """Those that train together."""

    def trainer(self, *, features: Path, saver: RunSaver | NoSaver | None, emit: Emit, stop: StopRequest) -> Trainer:
        """The trainer of the model; of its head alone, where the rest sees each image only once.

        Args:
            features: a file that keeps what the rest makes of them.
            saver: keeps checkpoints and metrics.
            emit: told about the progress.
            stop: whether a signal wants the training to end.
        """
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
            config=replace(config.optim, grad_accum_steps=computing.parts),
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
        )

    @property
    def distillation(self) -> Distillation | None:
        """How the teacher teaches, if there is one."""
        if self.teacher is None:
            return None
        return self.teacher.distillation(self.config, self.model.config, self.data.preprocessing)


def trial_trainer(
    model: VisionTransformer,
    config: TrainConfig,
    batches: Batches,
    precision: Precision,
    *,
    distillation: Distillation | None,
) -> Trainer:
    """One whose steps are tried and thrown away: nothing is judged, saved or told."""
    return Trainer(
        model,
        train=batches,
        val=(),
        config=config.optim,
        mixing=Mixing(mixup=config.augment.mixup, cutmix=config.augment.cutmix, seed=config.run.seed),
        precision=precision,
        saver=None,
        emit=ignore,
        stop=StopRequest(),
        seed=config.run.seed,
        distillation=distillation,
    )


def image_batches(
    data: TrainingData, config: TrainConfig, device: torch.device, place: Place = ALONE
) -> tuple[Batches, Batches]:
    """Shuffled, changed batches for training, and plain ones for validation."""
    to_input = InputTransform(data.preprocessing, device)
    train = Batches(
        data.train.images,
        data.train.labels,
        members=torch.from_numpy(data.members),
        batch_size=config.optim.batch_size,
        transform=TrainTransform(config.augment, to_input),
        device=device,
        seed=config.run.seed,
        balanced=config.data.balanced_sampling,
        place=place,
    )
    val = Batches(
        data.val.images,
        data.val.labels,
        members=torch.from_numpy(data.val_members),
        batch_size=_EVAL_BATCH,
        transform=to_input,
        device=device,
        place=place,
    )
    return train, val
