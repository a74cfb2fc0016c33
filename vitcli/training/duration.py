"""An estimate of the time that a training takes, from a few steps whose result is discarded."""

from copy import deepcopy
from dataclasses import replace
from itertools import islice

from vitcli.core.config import TrainConfig
from vitcli.core.errors import TrainingError
from vitcli.core.events import TrainingAhead
from vitcli.core.memory import is_out_of_memory
from vitcli.core.model_config import ModelConfig
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.growth import build_growth
from vitcli.engine.micro_batch_size import draws_untouched
from vitcli.engine.trial import StepTime, step_times, time_update, trial_trainer
from vitcli.training.assembly import Training
from vitcli.training.images import image_batches

_LONG = 2e11
"""Operations of a training that takes a few seconds on any machine; a shorter one starts at once."""
_PER_STEP = 2e11
"""Operations of a step that is long enough to be timed."""
_STEPS = 3
_VALIDATION = 1 / 3
"""Time for an image of the validation images, which have no backward pass, as a share of a training image's."""


def training_ahead(training: Training) -> TrainingAhead | None:
    """Estimate how long a training will take, by three steps on a copy of the model.

    Returns:
        The estimate; None if the training is short, or if steps on one copy say little about it: several processes, a
        compiled model, or a head that is trained alone on stored features.
    """
    images, epochs = len(training.data.members), training.config.optim.epochs
    if _operations(training) * images * epochs < _LONG or (seconds := estimated_seconds(training)) is None:
        return None
    return TrainingAhead(epochs=epochs, images=images, seconds=seconds)


def estimated_seconds(training: Training) -> float | None:
    """Estimate the seconds of a training, however short it is.

    Returns:
        The seconds; None as in ``training_ahead``, or if memory does not suffice for a copy of the model beside it.
    """
    config, model, computing = training.config, training.model, training.computing
    if training.processes.size > 1 or computing.forward is not None or config.sees_images_once:
        return None
    per_image, images = _operations(training), len(training.data.members)
    most = min(config.optim.batch_size // computing.micro_batches, images // _STEPS)  # so that all steps are full
    size = max(1, min(most, round(_PER_STEP / per_image)))
    short = replace(config, optim=replace(config.optim, batch_size=size, grad_accum_steps=1))
    try:
        with draws_untouched(computing.device):
            step_time = _step_time(training, short)
    except (TrainingError, RuntimeError, MemoryError) as error:
        if not (isinstance(error, TrainingError) or is_out_of_memory(error)):
            raise
        return None
    return time_of_training(
        step_time, config.optim, model.config, images=images, validation=len(training.data.val_members)
    )


def _step_time(training: Training, config: TrainConfig) -> StepTime:
    """Time a few steps on a copy of the model, with a copy of the precision, whose gradient scaler changes."""
    computing = training.computing
    batches, _ = image_batches(training.data, config, computing.device)
    trainer = trial_trainer(
        deepcopy(training.model), config, batches, deepcopy(computing.training), distillation=training.distillation
    )
    step = min(list(islice(step_times(trainer), _STEPS))[1:])  # the first step loads libraries
    return StepTime.of(step, time_update(trainer), images=config.optim.batch_size)


def _operations(training: Training) -> int:
    """Count the operations of a training step for one image."""
    model = training.model.config
    rows, columns = model.grid
    return 6 * model.num_parameters * (rows * columns + model.num_prefix_tokens)


def time_of_training(step: StepTime, config: OptimConfig, model: ModelConfig, *, images: int, validation: int) -> float:
    """Estimate the seconds of a training from the times of its steps, and the numbers of its images."""
    growth = build_growth(config, image_size=model.image_size, patch_size=model.patch_size)
    share = growth.mean_share if growth else 1
    updates = -(-images // config.batch_size)
    return config.epochs * ((share * images + _VALIDATION * validation) * step.image + updates * step.update)
