"""Diagnosis of the most frequent problems of training, early enough to fix them: figures and options to try."""

from collections.abc import Iterator, Sequence

from vitcli.core.errors import counted
from vitcli.core.events import EpochRecord
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.evaluate import Score

_EPOCHS_TO_LEARN, _STEPS_TO_LEARN = 3, 100
"""After this many epochs, and after this many steps or in the last epoch, a model should beat the most frequent class."""
_IMAGES_TO_JUDGE = 20
"""With fewer images, an accuracy near that of the most frequent class may be chance."""
ONE_CLASS = 0.99
"""Share of images with one answer from which a model counts as one that always gives it, if it is right no more often."""
_HARDLY_BETTER = 0.01
_STARVED = 0.3
_STARVED_SECONDS = 1.0
_EXPLODING = 100.0
"""Gradient norms above this value are reported; usual norms are between 0.1 and 10."""
_DEAD = 1e-7
_RISEN = 1.02
"""A training loss that is larger than this multiple of the first epoch's has risen."""


class Doctor:
    """A check of every epoch for common problems; each problem is reported once.

    Args:
        config: the optimisation settings.
        steps_per_epoch: the number of optimizer steps in an epoch.
        preview: the command that draws the images.
    """

    def __init__(self, config: OptimConfig, *, steps_per_epoch: int, preview: str) -> None:
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.preview = preview
        self._told: set[str] = set()

    def examine(self, records: Sequence[EpochRecord], judged: Score) -> Iterator[str]:
        """Yield the new findings about the last finished epoch, one line each."""
        record = records[-1]
        found = {
            "answers": self._of_answers(records, judged),
            "data": self._of_data(record),
            "gradients": self._of_gradients(record),
        }
        for what, text in found.items():
            if text and what not in self._told:
                self._told.add(what)
                yield text

    def _of_answers(self, records: Sequence[EpochRecord], judged: Score) -> str:
        epoch = len(records)
        is_short = epoch * self.steps_per_epoch < _STEPS_TO_LEARN and epoch < self.config.epochs
        is_early = epoch < _EPOCHS_TO_LEARN or is_short
        if is_early or judged.images < _IMAGES_TO_JUDGE or judged.majority_share >= ONE_CLASS:
            return ""
        if judged.favourite_share >= ONE_CLASS and judged.accuracy <= judged.majority_share:
            return (
                f"epoch {epoch} gives {100 * judged.favourite_share:.1f} % of the validation images one and the same"
                f" class, to which at most {100 * judged.majority_share:.1f} % belong: try {self._other_rate(records)}"
            )
        best = max(record.val_accuracy for record in records)
        if best > judged.majority_share + _HARDLY_BETTER:
            return ""
        return (
            f"after {epoch} epochs the best validation accuracy is {100 * best:.1f} %; always predicting the most"
            f" frequent class would score {100 * judged.majority_share:.1f} %: try {self._other_rate(records)}, or look at the"
            f" images: `{self.preview}`"
        )

    def _of_data(self, record: EpochRecord) -> str:
        if record.data_share < _STARVED or record.data_share * record.seconds < _STARVED_SECONDS:
            return ""
        return (
            f"training waited for images during {100 * record.data_share:.0f} % of epoch {record.epoch}:"
            " see --cache and --workers, or augment less"
        )

    def _of_gradients(self, record: EpochRecord) -> str:
        norm = record.grad_norm
        if norm is None or _DEAD <= norm <= _EXPLODING:
            return ""
        if norm < _DEAD:
            return f"gradients vanish: their norm in epoch {record.epoch} is {norm:.1g} on average; try {self.config.slower}"
        clipped = f" (cut to {self.config.clip_grad:g})" if self.config.clip_grad else ""
        return (
            f"gradients explode: their norm in epoch {record.epoch} is {norm:,.0f} on average{clipped};"
            f" try {self.config.slower} --warmup-epochs {self.config.warmup_epochs + 2:g}"
        )

    def _other_rate(self, records: Sequence[EpochRecord]) -> str:
        """Advise a lower learning rate if the training loss has risen; otherwise the rate may be too low as well.

        After few steps, more of them are advised.
        """
        has_risen = not records[-1].train_loss <= _RISEN * records[0].train_loss  # or is not a number
        if has_risen:
            return f"{self.config.slower}, or --find-lr"
        steps = len(records) * self.steps_per_epoch
        if steps < _STEPS_TO_LEARN:
            return f"more --epochs, because {counted(steps, 'step')} are few"
        return "--find-lr, which suggests a learning rate"
