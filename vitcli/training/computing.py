"""Decide how training computes on this machine: in which precision, compiled or not, and in how many micro-batches."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from vitcli.core.config import OptimConfig, TrainConfig
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.measurements import measured_once
from vitcli.data.loader import Batches
from vitcli.data.shares import share_of
from vitcli.data.store import data_dir
from vitcli.engine.autocast import Precision
from vitcli.engine.compiling import Forward, compiled, is_worth_compiling
from vitcli.engine.device import fingerprint
from vitcli.engine.distillation import Distillation
from vitcli.engine.distributed import Processes
from vitcli.engine.growth import build_growth
from vitcli.engine.micro_batch_size import fastest_size, micro_batches_that_fit, seconds_by_size
from vitcli.engine.micro_batches import MicroBatches
from vitcli.engine.trial import trial_trainer
from vitcli.models.layers import resampling
from vitcli.models.vit import VisionTransformer
from vitcli.trained.precision import (
    BLOCKS,
    choose_precision,
    mixed_here,
    question_about,
    recorded_here,
    seconds_by_precision,
)

_HEAD_ALONE = "a head alone is trained, on features that are computed once"


@dataclass(frozen=True, kw_only=True)
class Computing:
    """The way in which one run computes."""

    training: Precision
    inference: Precision
    """Of validation, and of features of a frozen backbone."""
    forward: Forward | None
    """The compiled model that is trained; None: the model itself."""
    micro_batches: int
    """Into how many a batch is cut; more than were asked for where the model was compiled, and more did not fit."""
    device: torch.device
    shard: bool
    """Each process holds a shard of the model that is trained."""

    @property
    def record(self) -> dict[str, Any]:
        """The choices and the machine, for the run and its checkpoints."""
        return {
            "training": self.training.name,
            "inference": self.inference.name,
            "compiled": None if self.shard else self.forward is not None,
            "machine": fingerprint(self.device),
        }


def choose_computing(
    model: VisionTransformer,
    config: TrainConfig,
    *,
    num_images: int,
    recorded: Mapping[str, Any] | None = None,
    micro_batches: int = 1,
    processes: Processes,
    emit: Emit,
) -> Computing:
    """Decide how a run computes; this changes neither the model nor what is random.

    Args:
        model: on its device; where it is to be sharded, it need not be.
        config: what was asked for.
        num_images: of an epoch.
        recorded: what this run computed in before; on the same machine it stays so.
        micro_batches: of each batch, when this run was stopped.
        processes: those that train together; the first one decides.
        emit: told what was chosen.

    Raises:
        DeviceError, TrainingError: torch.compile was asked for, and does not work here.
    """
    shard = will_shard(config, processes)
    if shard:
        model = _some_blocks(model).to(processes.device(config.run.device))
    device = next(model.parameters()).device
    amp, dtype = config.run.amp, config.run.amp_dtype
    place = processes.place
    if processes.rank:
        recorded = {**processes.broadcast(), "machine": fingerprint(device)}
    inference = choose_precision(model, work="inference", amp=amp, dtype=dtype, recorded=recorded)
    training = training_precision(model, config, recorded=recorded, processes=place.size)
    forward, micro_batches = None, max(micro_batches, config.optim.grad_accum_steps)
    if config.run.compile == "on" and (shard or config.sees_images_once):
        why = "the blocks of a sharded model come and go" if shard else _HEAD_ALONE
        emit(Warned(text=f"--compile on has no effect: {why}"))
    if config.run.shard and not shard:
        why = _HEAD_ALONE if config.sees_images_once else "one process alone holds all of the model"
        emit(Warned(text=f"--shard has no effect: {why}"))
    here = recorded_here(recorded, device)
    if not shard and _compiles(model, config, training, num_images=num_images, recorded=here, processes=place.size):
        share = len(share_of(min(config.optim.batch_size, num_images), place).members)
        growth = build_growth(config.optim, image_size=model.config.image_size, patch_size=model.config.patch_size)
        sizes = growth.sizes if growth else [model.config.image_size]
        fitting = MicroBatches(micro_batches, emit=emit, training=True, together=place.size > 1)
        forward = compiled(
            model,
            [torch.zeros(max(share, 1), model.config.in_channels, *size, device=device) for size in sizes],
            training,
            micro_batches=fitting,
            required=config.run.compile == "on",
            constants=[resampling],
            emit=emit,
        )
        micro_batches = fitting.count if forward else micro_batches
    chosen = Computing(
        training=training, inference=inference, forward=forward, micro_batches=micro_batches, device=device, shard=shard
    )
    if not processes.rank:
        processes.broadcast(chosen.record)
    if amp == "auto" and mixed_here(device, dtype):
        emit(Note(text=f"precision, as measured here: training in {training.name}, validation in {inference.name}"))
    return chosen


def will_shard(config: TrainConfig, processes: Processes) -> bool:
    """Tell whether each process is to hold a shard of the model; a head alone is small."""
    return config.run.shard and processes.size > 1 and not config.sees_images_once


def _some_blocks(model: VisionTransformer) -> VisionTransformer:
    """A copy with the blocks that are timed, for a device that has no room for all."""
    left_out: dict[int, nn.Module] = {id(block): nn.Identity() for block in model.blocks[BLOCKS - 1 : -1]}
    return deepcopy(model, left_out)


def training_precision(
    model: VisionTransformer, config: TrainConfig, *, recorded: Mapping[str, Any] | None = None, processes: int = 1
) -> Precision:
    """Choose the precision of training; a head alone is too small to gain from anything but float32."""
    amp = "off" if config.run.amp == "auto" and config.sees_images_once else config.run.amp
    dtype, batch = config.run.amp_dtype, _batch(config.optim, processes)
    return choose_precision(model, work="training", amp=amp, dtype=dtype, batch=batch, recorded=recorded)


def with_micro_batches(
    model: VisionTransformer,
    config: TrainConfig,
    batches: Callable[[], Batches],
    *,
    distillation: Distillation | None = None,
    emit: Emit,
) -> TrainConfig:
    """Set ``grad_accum_steps`` where it is to be found out; neither the model nor what is random is changed.

    On GPUs a batch is cut into as few micro-batches as fit into memory, which two steps on a copy show. A CPU has memory, and
    caches that a micro-batch should fit into: what is fastest is measured once per machine and model, and remembered.

    Args:
        model: on its device.
        config: the whole configuration.
        batches: makes those of training, placed where they will be.
        distillation: what else takes memory in a step.
        emit: told what was chosen.
    """
    if config.optim.grad_accum_steps:
        return config
    if config.sees_images_once:  # its head is small
        return replace(config, optim=replace(config.optim, grad_accum_steps=1))
    device = next(model.parameters()).device
    precision, images = training_precision(model, config), batches()
    size = images.batch_size
    if device.type == "cpu":
        question = question_about(model, "training") | {"precision": precision.name, "parts_of": size}
        seconds = measured_once(
            question,
            lambda: seconds_by_size(model, next(images.epoch(1))[0], precision),
            folder=data_dir() / "measured",
        )
        count, why = -(-size // fastest_size(seconds)), "which is fastest here"
    else:
        trainer = trial_trainer(deepcopy(model), config, images, precision, distillation=distillation)
        count, why = micro_batches_that_fit(trainer), "which fits into memory"
    taken = f"in {count} micro-batches of {-(-size // count)}" if count > 1 else "at once"
    emit(Note(text=f"each batch of {size} images is taken {taken}, {why}"))
    return replace(config, optim=replace(config.optim, grad_accum_steps=count))


def _compiles(
    model: VisionTransformer,
    config: TrainConfig,
    precision: Precision,
    *,
    num_images: int,
    recorded: Mapping[str, Any] | None,
    processes: int,
) -> bool:
    """Tell whether to compile the model: that was asked for, or pays; a head alone is not worth it."""
    asked, device = config.run.compile, next(model.parameters()).device
    if asked == "off" or config.sees_images_once:
        return False
    if asked == "on" or device.type != "cuda":
        return asked == "on"
    if recorded and recorded["compiled"] is not None:  # a sharded model could not be
        return bool(recorded["compiled"])
    dtype = precision.name if precision.enabled else mixed_here(device, config.run.amp_dtype)
    assert dtype is not None
    seconds = (
        seconds_by_precision(model, "training", dtype, _batch(config.optim, processes))[precision.name] / processes
    )
    whole = model.config.depth / min(model.config.depth, BLOCKS)  # which was timed in part
    return is_worth_compiling(device, seconds=seconds * whole * num_images * config.optim.epochs)


def _batch(config: OptimConfig, processes: int) -> int:
    """Images of one forward pass of one of so many processes."""
    return -(-config.batch_size // (max(config.grad_accum_steps, 1) * processes))
