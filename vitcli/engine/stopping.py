"""Rules for the best epoch so far, and for the end of training."""

from collections.abc import Sequence

from vitcli.core.events import EpochRecord
from vitcli.core.optim_config import OptimConfig


def best_of(records: Sequence[EpochRecord]) -> EpochRecord:
    """Return the epoch that is kept: the one with the best validation accuracy, or the last one.

    Among epochs of equal accuracy, it is the one with the lowest validation loss.
    """
    return next(record for record in reversed(records) if record.is_best)


def is_better(val_accuracy: float, val_loss: float, records: Sequence[EpochRecord]) -> bool:
    """Tell whether an epoch with these figures is better than all earlier epochs."""
    if not records:
        return True
    best = best_of(records)
    return (val_accuracy, -val_loss) > (best.val_accuracy, -best.val_loss)


def is_out_of_patience(records: Sequence[EpochRecord], config: OptimConfig) -> bool:
    """Tell whether the best epoch is ``config.patience`` or more epochs ago; 0: never."""
    patience = config.patience
    return bool(patience and records) and records[-1].epoch - best_of(records).epoch >= patience


def is_over(records: Sequence[EpochRecord], config: OptimConfig) -> bool:
    """Tell whether training is over: all epochs are done, or patience has run out."""
    return len(records) >= config.epochs or is_out_of_patience(records, config)
