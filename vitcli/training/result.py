"""The result of a training run."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitcli.core.errors import RunError, visible
from vitcli.core.events import EpochRecord
from vitcli.core.notebooks import html_picture, html_table
from vitcli.core.runs import Run
from vitcli.models.registry import changed_sizes, sizes_of, with_sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainResult:
    """The result of a finished run; functions that take the name of a model take it too."""

    run: str
    """Name of the run."""
    path: Path
    """The folder of the run."""
    dataset: str
    model: str
    """The name of the architecture, with the size of its patches."""
    model_changes: Mapping[str, Any]
    """Settings that differ from the architecture of this name."""
    parameters: int
    """Number of parameters."""
    device: str
    classes: int
    train_images: int
    """Number of images to train on."""
    val_images: int
    """Number of images to validate on."""
    test_images: int
    """Number of test images, for `vit eval`; 0: there are none."""
    is_competition: bool
    """True if the data are of a competition, whose test images have no labels: `vit predict --submission`."""
    epochs: int
    """Number of epochs that were trained."""
    best: EpochRecord
    """The epoch that is kept: the best one on the validation images, or the last one with ``optim.keep = "last"``."""
    keeps_last: bool
    """True if the last epoch is kept instead of the best one."""
    seconds: float
    """Time for training, validation and the features of a frozen backbone; without imports and preparation of data."""

    @property
    def model_in_words(self) -> str:
        """The model, with its changed sizes."""
        return with_sizes(self.model, changed_sizes(self.model, self.model_changes))

    def __repr__(self) -> str:
        best, kept = self.best, "kept" if self.keeps_last else "best"
        score = f"{kept} epoch {best.epoch} of {self.epochs}, validation accuracy {100 * best.val_accuracy:.2f} %"
        return visible(f"<TrainResult {self.path}: {score}>")

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def _repr_html_(self) -> str:
        best, kept = self.best, "kept" if self.keeps_last else "best"
        rows = (
            ("run", str(self.path)),
            ("data", f"{self.dataset}: {self.classes:,} classes, {self.train_images:,} images to train"),
            ("model", f"{self.model_in_words}, {self.parameters:,} parameters"),
            (f"{kept} epoch", f"{best.epoch} of {self.epochs}"),
            ("validation accuracy", f"{100 * best.val_accuracy:.2f} %"),
            ("validation loss", f"{best.val_loss:.4f}"),
        )
        return html_table(rows) + html_picture(self._repr_png_())

    def _repr_png_(self) -> bytes | None:
        """Return the curves of the run; None if its folder is gone or holds another run now."""
        try:
            run = Run(self.path)
            is_same = result_of(run).seconds == self.seconds  # no two trainings take the same time
            return run.figure("curves").read_bytes() if is_same else None
        except (RunError, OSError):
            return None


def result_of(run: Run) -> TrainResult:
    """Read the result of a finished run."""
    info, metrics = run.info, run.metrics
    try:
        return TrainResult(
            run=run.name,
            path=run.path,
            dataset=info["dataset"],
            model=info["model"],
            model_changes={
                key: value
                for key, value in run.config["model"].items()
                if key not in {"name", "patch_size"} and value != sizes_of(info["model"]).get(key)
            },
            parameters=info["parameters"],
            device=info["device"],
            classes=info["classes"],
            train_images=info["images"]["train"],
            val_images=info["images"]["val"],
            test_images=info["images"]["test"],
            is_competition=info.get("is_competition", False),  # absent in runs of earlier versions
            epochs=len(metrics["epochs"]),
            best=EpochRecord(**metrics["best"]),
            keeps_last=run.keeps_last,
            seconds=info["seconds"],
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"the files of run {run.name} are not those of a finished run: {error}") from None
