"""Formatting of numbers, times and progress for people."""

from vitcli.core.events import EpochRecord, TrainingProgress


def percent(share: float) -> str:
    """Format a share in 0..1 as ``98.33 %``."""
    return f"{100 * share:.2f} %"


def duration(seconds: float) -> str:
    """Format seconds as ``3.1 s``, ``2 min 05 s`` or ``1 h 02 min``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def figures(event: TrainingProgress) -> str:
    """Format the loss, accuracy and speed of a progress event."""
    return f"loss {event.loss:.3f}  {percent(event.accuracy)}  {event.images_per_second:,.0f} images/s"


def epoch_line(record: EpochRecord, epochs: int, *, keeps_best: bool = True) -> str:
    """Format an epoch in at most 80 characters: losses, accuracies, and the speed or the accuracy of the other weights.

    The other weights are the plain weights if the average is kept ("plain"), else the average ("mean").
    """
    width = len(str(epochs))
    best = "  [bold green]best[/]" if record.is_best and keeps_best else ""
    beside = f"{record.images_per_second:,.0f} images/s"
    if record.plain_val_accuracy is not None and record.average_val_accuracy is not None:
        average_is_kept = (record.val_loss, record.val_accuracy) == (
            record.average_val_loss,
            record.average_val_accuracy,
        )
        name, other = ("plain", record.plain_val_accuracy) if average_is_kept else ("mean", record.average_val_accuracy)
        beside = f"{name} {percent(other)}"
    return (
        f"epoch {record.epoch:{width}}/{epochs}  "
        f"train {record.train_loss:.4f} {percent(record.train_accuracy):>8}  "
        f"val {record.val_loss:.4f} {percent(record.val_accuracy):>8}  "
        f"{beside}{best}"
    )
