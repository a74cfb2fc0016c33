"""The choice of precision, compilation and number of micro-batches for a training on this machine."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from vitcli.core.config import TrainConfig
from vitcli.core.errors import counted
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.files import bytes_in_words
from vitcli.core.measurements import measured_once
from vitcli.core.memory import free_memory
from vitcli.core.optim_config import OptimConfig
from vitcli.data.loader import Batches
from vitcli.data.shares import share_of
from vitcli.data.store import data_dir
from vitcli.engine.autocast import Precision
from vitcli.engine.compiling import Forward, compiled, is_worth_compiling
from vitcli.engine.cores import may_divide_steps, shares_of_cores
from vitcli.engine.device import fingerprint
from vitcli.engine.distillation import Distillation
from vitcli.engine.distributed import Processes
from vitcli.engine.growth import build_growth
from vitcli.engine.micro_batch_size import (
    MEMORY_MARGIN,
    fastest_size,
    kept_bytes,
    micro_batches_that_fit,
    seconds_by_size,
)
from vitcli.engine.micro_batches import MicroBatches
from vitcli.engine.timing import LeftOut
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

_BYTES = 4
"""Bytes of a number in float32."""
_STATES = 4
"""Numbers that are kept for each weight: itself, its gradient, and two moments."""
_OF_WIDTH, _OF_MLP, _OF_ATTENTION = 14, 4, 4
"""Numbers that a block keeps of a token for the backward pass, at most, as multiples of its width, of its MLP's, and with
attention dropout of the number of its attention probabilities."""
_TEMPORARY = 1.2
"""The highest memory use of a backward pass, as a multiple of what is kept for it."""
_HEAD_ALONE = "only the head is trained, on features that are computed once"


@dataclass(frozen=True, kw_only=True)
class Computing:
    """The choices of how a run computes: precision, compilation, micro-batches, device and sharding."""

    training: Precision
    inference: Precision
    """The precision of validation, and of the features of a frozen backbone."""
    forward: Forward | None
    """The compiled model that training calls; None: the model is not compiled."""
    micro_batches: int
    """The number of micro-batches per batch; more than configured if fewer did not fit when the model was compiled."""
    device: torch.device
    shard: bool
    """True if each process holds only a shard of the trained model."""

    @property
    def record(self) -> dict[str, Any]:
        """The choices and the fingerprint of the machine, as a run and its checkpoints store them."""
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
    """Decide how a run computes; the model and the random states do not change.

    Args:
        model: the model, on its device; if it will be sharded, on any device.
        config: the complete configuration.
        num_images: the number of images per epoch.
        recorded: ``Computing.record`` of the run before it was resumed; it is kept on the same machine.
        micro_batches: the number of micro-batches per batch when the run stopped.
        processes: the processes that train together; the first one decides.
        emit: receives notes about the choices.

    Raises:
        DeviceError, TrainingError: ``--compile on`` does not work here.
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
        why = "the blocks of a sharded model are gathered and freed in every step" if shard else _HEAD_ALONE
        emit(Warned(text=f"--compile on has no effect: {why}"))
    if config.run.shard and not shard:
        why = _HEAD_ALONE if config.sees_images_once else "one process alone holds the whole model"
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
    if not (forward or config.sees_images_once) and place.size == 1:
        batch_size = min(config.optim.batch_size, num_images)
        micro_batches = within_memory(model, training, batch_size=batch_size, micro_batches=micro_batches, emit=emit)
    if recorded and not processes.rank:
        _tell_other_computing(recorded, fingerprint(device), training.name, inference.name, emit)
    chosen = Computing(
        training=training, inference=inference, forward=forward, micro_batches=micro_batches, device=device, shard=shard
    )
    if not processes.rank:
        processes.broadcast(chosen.record)
    if amp == "auto" and mixed_here(device, dtype):
        emit(Note(text=f"precision, as measured here: training in {training.name}, validation in {inference.name}"))
    return chosen


def _tell_other_computing(
    recorded: Mapping[str, Any], machine: Mapping[str, Any], training: str, inference: str, emit: Emit
) -> None:
    """Warn if a run continues on another machine, with another number of cores, or in another precision."""
    before, told = recorded.get("machine"), []
    if before and any(before.get(fact) != machine.get(fact) for fact in ("device", "flags", "threads")):
        told.append("this is not the machine of before, or not its number of cores, so the last digits may differ")
    told += [
        f"{work} computes in {now} from here on, and did in {recorded[key]}"
        for work, key, now in (("training", "training", training), ("validation", "inference", inference))
        if recorded.get(key, now) != now
    ]
    if told:
        emit(Warned(text="; ".join(told)))


def will_shard(config: TrainConfig, processes: Processes) -> bool:
    """Tell whether each process will hold only a shard of the model; a head alone is too small to be sharded."""
    return config.run.shard and processes.size > 1 and not config.sees_images_once


def _some_blocks(model: VisionTransformer) -> VisionTransformer:
    """Copy a model with only the blocks that are timed, because the whole model may not fit on the device."""
    left_out: dict[int, nn.Module] = {id(block): LeftOut() for block in model.blocks[BLOCKS - 1 : -1]}
    return deepcopy(model, left_out)


def training_precision(
    model: VisionTransformer, config: TrainConfig, *, recorded: Mapping[str, Any] | None = None, processes: int = 1
) -> Precision:
    """Choose the precision of training; a head alone is too small to be faster in mixed precision."""
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
    """Find ``grad_accum_steps`` if it is 0; the model and the random states do not change.

    On GPUs, a batch is cut into the fewest micro-batches that fit into memory, which two steps on a copy of the model
    show. CPUs have enough memory, but are faster if a micro-batch fits into their caches: the fastest size is measured
    once per machine and model, and stored.

    Args:
        model: the model, on its device.
        config: the complete configuration.
        batches: makes the training batches, on the device that training will use.
        distillation: the distillation loss, which needs memory too; None: there is no teacher.
        emit: receives a note about the choice.
    """
    if config.optim.grad_accum_steps:
        return config
    if config.sees_images_once:  # a head alone needs little memory
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


def within_memory(
    model: VisionTransformer, precision: Precision, *, batch_size: int, micro_batches: int, emit: Emit
) -> int:
    """Increase the number of micro-batches until one fits into the free memory of the machine.

    A CPU needs this estimate, because the system ends a process that takes too much memory. It counts what the backward
    pass needs, the weights, their gradients and the moments.

    Args:
        model: the model.
        precision: the precision to compute in.
        batch_size: images per batch.
        micro_batches: the number of micro-batches that are wanted.
        emit: receives a note if there must be more.
    """
    config, free, device = model.config, free_memory(), next(model.parameters()).device
    size = -(-batch_size // micro_batches)
    shares = shares_of_cores(size, device, model) if may_divide_steps(model, precision) else [[slice(0, size)]]
    size = sum(max(piece.stop - piece.start for piece in pieces) for pieces in shares)  # that are computed at once
    tokens = config.grid[0] * config.grid[1] + config.num_prefix_tokens
    of_attention = _OF_ATTENTION * config.num_heads * tokens if config.attention_dropout else 0
    most = _BYTES * tokens * config.depth * (_OF_WIDTH * config.width + _OF_MLP * config.mlp_width + of_attention)
    gradients = sum(1 + (len(pieces) > 1) for pieces in shares)  # of each share, and of the piece that is added to them
    states = (_STATES - 1 + gradients) * _BYTES * config.num_parameters
    room = MEMORY_MARGIN * (free or 0) - states
    if device.type != "cpu" or free is None or most * size < room:
        return micro_batches
    height, width = config.image_size
    one, two = (kept_bytes(model, torch.zeros(count, config.in_channels, height, width), precision) for count in (1, 2))
    image = _TEMPORARY * (two - one)
    if model.grad_checkpointing:  # one block at a time, and its input
        image = 2 * image / config.depth
    fitting = max(int(room / image), 1)
    if fitting >= size:
        return micro_batches
    parts = -(-batch_size // fitting)
    needed = f"a batch of {batch_size:,} images needs about {bytes_in_words(int(states + image * size))} of memory"
    taken = f"it is taken in {parts:,} micro-batches of {counted(-(-batch_size // parts), 'image')}"
    doubt = "" if image < room else ", which may not fit either"
    emit(
        Warned(text=f"{needed}, and {bytes_in_words(free)} are free: {taken}{doubt} (--grad-checkpointing needs less)")
    )
    return parts


def _compiles(
    model: VisionTransformer,
    config: TrainConfig,
    precision: Precision,
    *,
    num_images: int,
    recorded: Mapping[str, Any] | None,
    processes: int,
) -> bool:
    """Tell whether to compile the model: if the settings say so, or if it saves time; never for a head alone."""
    asked, device = config.run.compile, next(model.parameters()).device
    if asked == "off" or config.sees_images_once:
        return False
    if asked == "on" or device.type != "cuda":
        return asked == "on"
    if recorded and recorded["compiled"] is not None:  # None: the model was sharded, and could not be compiled
        return bool(recorded["compiled"])
    dtype = precision.name if precision.enabled else mixed_here(device, config.run.amp_dtype)
    assert dtype is not None
    seconds = (
        seconds_by_precision(model, "training", dtype, _batch(config.optim, processes))[precision.name] / processes
    )
    whole = model.config.depth / min(model.config.depth, BLOCKS)  # only some blocks were timed
    return is_worth_compiling(device, seconds=seconds * whole * num_images * config.optim.epochs)


def _batch(config: OptimConfig, processes: int) -> int:
    """Compute the number of images in one forward pass of one process."""
    return -(-config.batch_size // (max(config.grad_accum_steps, 1) * processes))
