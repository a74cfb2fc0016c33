"""Calibration of a trained model on its validation images."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from vitcli.core.errors import ModelError, RunError, check_at_least, visible
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.notebooks import html_table
from vitcli.data.locks import is_worked_in
from vitcli.engine.checkpoint import is_checkpoint, save_checkpoint
from vitcli.judging.answers import Answers, collect
from vitcli.judging.calibration import expected_error, reliability
from vitcli.judging.judge import judge
from vitcli.judging.temperature import calibration_by, doubt_about
from vitcli.trained.judged_images import choose_images
from vitcli.trained.loading import load_models


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibrationResult:
    """A calibration, which is stored in the checkpoint; the numbers before and after are of the same images."""

    model: str
    checkpoint: Path
    temperature: float
    """The number that logits are divided by from now on; above 1, probabilities become more careful."""
    images: int
    """The number of validation images."""
    loss_before: float
    """The loss without a temperature, whatever one was there before."""
    loss_after: float
    """The loss with the new temperature."""
    ece_before: float
    """The expected calibration error, 0..1."""
    ece_after: float
    """The same with the new temperature."""

    def __repr__(self) -> str:
        ece = f"ECE {100 * self.ece_before:.2f} % before, {100 * self.ece_after:.2f} % after"
        return visible(f"<CalibrationResult of {self.model}: temperature {self.temperature:.3f}, {ece}>")

    def _repr_html_(self) -> str:
        rows = [
            ("temperature", "1", f"{self.temperature:.3f}"),
            ("loss", f"{self.loss_before:.4f}", f"{self.loss_after:.4f}"),
            ("ECE", f"{100 * self.ece_before:.2f} %", f"{100 * self.ece_after:.2f} %"),
        ]
        return html_table(rows, headings=("", "before", "after"))


def calibrate(
    *,
    model: str = "",
    output_dir: Path = Path("experiments"),
    directory: str = "",
    device: str = "auto",
    batch_size: int = 256,
    offline: bool = False,
    emit: Emit = ignore,
) -> CalibrationResult:
    """Fit the temperature of a model on its validation images, and store it in the checkpoint.

    Args:
        model: a run or checkpoint that vit trained; empty: the newest finished run.
        output_dir: the folder of all runs.
        directory: the folder of data sets; empty: as in training.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images per batch.
        offline: download nothing.
        emit: receives the progress.

    Raises:
        ModelError: these are several models, the weights were not trained with vit, or the validation images are the test
            images.
        RunError, DataError, DeviceError: the run is still training, or the model, its data or the device does not exist.
    """
    check_at_least("batch_size", batch_size, 1)
    loaded, *others = load_models(model, output_dir=output_dir, device=device, offline=offline, emit=emit)
    if others:
        raise ModelError("calibration is for one model, not for an average", hint=f"--model {loaded.typed}")
    if not (is_checkpoint(loaded.path) and loaded.checkpoint.provenance.get("data")):
        raise ModelError(f"{loaded.name} was not trained with vit, so it has no validation images here")
    if loaded.run and is_worked_in(loaded.run.path):
        raise RunError(f"{loaded.run.name} is still training, which would replace the calibration")
    if loaded.data.val_split == "test":
        raise ModelError(
            f"the test images of {loaded.name} served for validation, and a calibration must not see them",
            hint="train with validation images: --set data.val_split=auto",
        )
    chosen = choose_images([loaded], dataset="", split="val", directory=directory, offline=offline, hint="", emit=emit)
    before = loaded.checkpoint.calibration
    judged = judge([loaded], chosen, batch_size=batch_size, keeps_logits=True, emit=emit)
    logits = judged.logits.double() * (before.temperature if before else 1)
    truth, classes = torch.from_numpy(judged.answers.truth), judged.answers.classes
    calibration = calibration_by(logits, truth)
    if doubt := doubt_about(calibration.temperature, len(truth)):
        emit(Warned(text=doubt))
    first, last = (collect([(each, truth)], classes) for each in (logits, logits / calibration.temperature))
    save_checkpoint(loaded.path, replace(loaded.checkpoint, calibration=calibration))
    return CalibrationResult(
        model=loaded.name,
        checkpoint=loaded.path,
        temperature=calibration.temperature,
        images=len(truth),
        loss_before=float(first.loss.mean()),
        loss_after=float(last.loss.mean()),
        ece_before=_error(first),
        ece_after=_error(last),
    )


def _error(answers: Answers) -> float:
    return expected_error(reliability(answers))
