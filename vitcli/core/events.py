"""Events: workflows report progress without printing by emitting them, and whoever calls listens.

A command line draws them, a test collects them, a notebook ignores them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """Something decided for the user, which they may want to know."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Warned:
    """Something that probably is not what the user wants."""

    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut(Warned):
    """Something that cannot be used and is skipped; a report of everything that is wrong has it, too."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskProgress:
    """A counted piece of work: preparing images, evaluating, predicting.

    The first event of a task has ``done`` 0, the last has ``done == total``.
    """

    task: str
    done: int
    total: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingStarted:
    """Training is about to take its first step."""

    epochs: int
    steps_per_epoch: int
    steps_done: int = 0
    """Of all epochs, before a run was resumed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingProgress:
    """Somewhere inside an epoch; ``loss`` and ``accuracy`` (0..1) are means over the epoch so far."""

    epoch: int
    step: int
    """How many of the epoch's steps are done."""
    loss: float
    accuracy: float
    images_per_second: float
    step_loss: float
    """Mean of the last step's batch."""
    learning_rate: float
    """Of the last step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EpochRecord:
    """One finished epoch, as it stands in ``metrics.json``; losses in nats, accuracies in 0..1."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    seconds: float
    images_per_second: float
    data_share: float
    """Share of the training time spent waiting for batches, 0..1."""
    is_best: bool
    grad_norm: float | None = None
    """Of the gradient of all weights before clipping, the mean over the epoch's steps; None: not known."""
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    """Of each kind of parameter, where they differ: with muon of the ``matrices`` of the blocks and of the ``rest``, and
    of a ``head`` with a rate of its own; with layer decay, of the topmost layer. Empty: ``learning_rate`` is all."""
    peak_memory: int = 0
    """The most bytes in use, validation included: of a CUDA device's memory in this epoch; elsewhere of this
    process's memory (resident set) since it began. 0: not known, as in runs of earlier versions."""
    plain_val_loss: float | None = None
    """Where an average of the weights is judged as well (``optim.ema``, ``optim.swa_epochs``): the weights' own figures,
    and below the average's; ``val_loss`` and ``val_accuracy`` are those of the weights that were kept."""
    plain_val_accuracy: float | None = None
    average_val_loss: float | None = None
    average_val_accuracy: float | None = None


Event = Note | Warned | TaskProgress | TrainingStarted | TrainingProgress | EpochRecord
Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener of those who do not listen."""
