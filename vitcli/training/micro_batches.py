"""What ``--batch-size auto`` comes to: the batch stays the recipe's, and is cut into parts that suit the device."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

from vitcli.core.config import TrainConfig
from vitcli.core.events import Emit, Note
from vitcli.core.measurements import measured_once
from vitcli.data.loader import Batches
from vitcli.data.store import data_dir
from vitcli.engine.distillation import Distillation
from vitcli.engine.part_size import fastest_part, parts_that_fit, seconds_by_part
from vitcli.engine.trial import trial_trainer
from vitcli.models.vit import VisionTransformer
from vitcli.trained.precision import question_about, training_precision


def with_parts(
    model: VisionTransformer,
    config: TrainConfig,
    batches: Callable[[], Batches],
    *,
    distillation: Distillation | None = None,
    emit: Emit,
) -> TrainConfig:
    """The configuration, with ``grad_accum_steps`` as a number; neither the model nor what is random is changed.

    On GPUs a batch is cut into as few parts as fit into memory, which two steps on a copy show. A CPU has memory, and
    caches that a part should fit into: what is fastest is measured once per machine and model, and remembered.

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
            lambda: seconds_by_part(model, next(images.epoch(1))[0], precision),
            folder=data_dir() / "measured",
        )
        parts, why = -(-size // fastest_part(seconds)), "which is fastest here"
    else:
        trainer = trial_trainer(deepcopy(model), config, images, precision, distillation=distillation)
        parts, why = parts_that_fit(trainer), "which fits into memory"
    taken = f"in {parts} parts of {-(-size // parts)}" if parts > 1 else "at once"
    emit(Note(text=f"each batch of {size} images is taken {taken}, {why}"))
    return replace(config, optim=replace(config.optim, grad_accum_steps=parts))
