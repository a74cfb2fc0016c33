"""Events, by which workflows report progress without printing.

The caller passes a listener: the command line prints events, tests collect them, notebooks may ignore them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A decision made for the user, who may want to know about it."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Warned:
    """A warning: something that the user probably does not want."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut(Warned):
    """A warning about data that cannot be used and are skipped; the report of ``--dry-run`` lists them too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskProgress:
    """Progress of a counted task, such as preparing images, evaluating or predicting.

    The first event of a task has ``done == 0``, the last has ``done == total``.
    """

    task: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingAhead:
    """An estimate of a long training, before it starts."""

    epochs: int
    images: int
    """Training images per epoch."""
    seconds: float
    """Estimated time of all epochs, including validation."""
    runs: int = 1
    """The number of such trainings, one after the other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingStarted:
    """The start of training or pretraining, before the first step."""

    epochs: int
    steps_per_epoch: int
    steps_done: int = 0
    """Steps that a resumed run has already done, over all epochs."""
    keeps_best: bool = True
    """True if the best epoch is kept; False: the last one."""
    labelled: bool = True
    """False: it is pretraining, without labels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingProgress:
    """Progress within an epoch; ``loss`` and ``accuracy`` (0..1) are means over the epoch so far."""

    epoch: int
    step: int
    """Number of finished steps of the epoch."""
    loss: float
    accuracy: float
    images_per_second: float
    step_loss: float
    """Mean loss over the batch of the last step."""
    learning_rate: float
    """Learning rate of the last step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRecord:
    """The results of one epoch, as stored in ``metrics.json``; losses in nats, accuracies in 0..1."""

    epoch: int
    """Number of the epoch, from 1."""
    learning_rate: float
    """Learning rate of the last step."""
    train_loss: float
    """Mean loss over the training images, as they were augmented."""
    train_accuracy: float
    """Accuracy on the training images, as they were augmented."""
    val_loss: float
    """Loss on the validation images."""
    val_accuracy: float
    """Accuracy on the validation images."""
    seconds: float
    """Time for training, without validation."""
    images_per_second: float
    """Training images per second."""
    data_share: float
    """Share of the training time that was spent waiting for batches, 0..1."""
    is_best: bool
    """True if no earlier epoch was better on the validation images, or if the last epoch is kept in any case."""
    grad_norm: float | None = None
    """Norm of the gradient of all weights before clipping, mean over the epoch's steps; None: not known."""
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    """Learning rate of each kind of parameter, if they differ: with muon, ``matrices`` of the blocks and the ``rest``;
    a ``head`` with its own rate. With layer decay, the rate of the last layer. Empty: all use ``learning_rate``."""
    peak_memory: int = 0
    """Highest memory use in bytes, including validation: on CUDA, of the device in this epoch; otherwise, of this
    process (resident set) since its start. 0: not known, as in runs of earlier versions."""
    plain_val_loss: float | None = None
    """Validation loss of the plain weights, if an average of them is scored too (``optim.ema``, ``optim.swa_epochs``);
    ``val_loss`` and ``val_accuracy`` belong to the weights that are kept, plain or averaged."""
    plain_val_accuracy: float | None = None
    """Validation accuracy of the plain weights, if an average is scored too."""
    average_val_loss: float | None = None
    """Validation loss of the average."""
    average_val_accuracy: float | None = None
    """Validation accuracy of the average."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainingProgress:
    """Progress within an epoch of pretraining; ``loss`` is the mean over the epoch so far."""

    epoch: int
    step: int
    """Number of finished steps of the epoch."""
    loss: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainingEpoch:
    """The results of one epoch of pretraining; losses are mean squared errors of hidden pixels, 1 without any knowledge."""

    epoch: int
    """Number of the epoch, from 1."""
    learning_rate: float
    """Learning rate of the last step."""
    train_loss: float
    """Mean loss of the training images, as they were augmented."""
    val_loss: float
    """Mean loss of the images that are held out."""
    seconds: float
    """Time for training, without the held-out images."""
    images_per_second: float
    """Training images per second."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchProgress:
    """Progress of a search for settings."""

    task: str
    """The current training: ``trial 7``, or ``final 2 of 9``."""
    epoch: int
    """Number of the current epoch."""
    epochs: int
    best: float | None
    """The highest validation accuracy of a trial so far, 0..1; None: no trial has finished."""
    share: float
    """The used share of the budget, or the share of the finals that is done, 0..1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialEnded:
    """The end of a trial of a search for settings."""

    number: int
    val_accuracy: float | None
    """Validation accuracy; of a trial that was ended early, that of its last epoch; None: it failed."""
    epoch: int
    """The last epoch."""
    epochs: int
    outcome: str
    """``pruned``, or ``failed`` with the reason; empty: it was trained to its end."""
    settings: Mapping[str, object]
    """The values of the searched settings; empty: the default settings."""
    is_best: bool
    """True if no earlier trial was better."""


Event = (
    Note
    | Warned
    | TaskProgress
    | TrainingAhead
    | TrainingStarted
    | TrainingProgress
    | EpochRecord
    | PretrainingProgress
    | PretrainingEpoch
    | SearchProgress
    | TrialEnded
)
Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Ignore an event: the listener for callers that need no progress."""
