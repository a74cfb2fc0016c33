"""Out-of-fold predictions of a cross-validation: every image, as the fold predicts it that was not trained on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vitcli.core.errors import RunError
from vitcli.core.events import Emit, TaskProgress, ignore
from vitcli.core.files import csv_text, safe_cell, write_text
from vitcli.core.fingerprints import is_same_data
from vitcli.core.runs import Run
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.loader import Batches
from vitcli.data.splits import restored_plan
from vitcli.data.store import data_dir
from vitcli.engine.evaluate import predict_logits
from vitcli.trained.loading import load_model
from vitcli.trained.out_of_fold import PROBABILITY
from vitcli.training.resumed_settings import stored_settings

_BATCH = 256


@dataclass(frozen=True, kw_only=True, slots=True)
class OutOfFold:
    """The table of out-of-fold predictions."""

    path: Path
    images: int
    """Number of rows."""
    labelled: int
    """Number of images in the training split on disk."""
    left_out: dict[str, int]
    """Number of images without a row, by reason."""

    def in_words(self) -> str:
        """Count the rows, and the images without one."""
        reasons = [f"{count:,} {why}" for why, count in self.left_out.items() if count]
        others = f" (the others: {', '.join(reasons)})" if reasons else ""
        return f"{self.images:,} of {self.labelled:,} labelled images{others}"


def write_out_of_fold(path: Path, folds: Sequence[Run], emit: Emit) -> OutOfFold:
    """Predict the validation images of every fold with its own model, and write one table in the data set's order.

    Args:
        path: the CSV file.
        folds: the finished runs of all folds.
        emit: receives the progress.

    Raises:
        RunError: two folds validated on the same image, so they do not belong to one cross-validation.
        DataError, ModelError, DeviceError: the images or a model cannot be read.
    """
    newest = stored_settings(max(folds, key=lambda run: str(run.info["ended"])))
    dataset = open_dataset(newest.data, directory=data_dir(newest.data.dir), offline=True, emit=ignore)
    classes, total = dataset.facts.classes, dataset.facts.counts["train"]
    rows: dict[int, list[float]] = {}
    held_out = unreadable = 0
    emit(TaskProgress(task="predicting out of fold", done=0, total=len(folds)))
    for number, run in enumerate(folds, start=1):
        # Find the images that this fold validated on
        stored = run.split or {}
        if not is_same_data(stored.get("fingerprint"), dataset.facts.fingerprint):
            raise RunError(f"run {run.name} was trained on other data than those of {dataset.facts.name} now")
        plan = restored_plan(stored, dataset)
        members = plan["val"].indices(dataset)
        if not rows.keys().isdisjoint(members.tolist()):
            raise RunError(f"run {run.name} validated on images that another fold validated on too")

        # Predict them with the weights that the fold kept
        loaded = load_model(str(run.path), device=newest.run.device, emit=ignore)
        geometry = loaded.checkpoint.preprocessing.geometry
        images = dataset.split("train", geometry, members=plan["val"].members, emit=ignore)
        readable = images.readable()
        batches = Batches(
            images.images,
            images.labels,
            members=torch.from_numpy(readable),
            batch_size=_BATCH,
            transform=loaded.to_input,
            device=loaded.device,
        )
        logits, _ = predict_logits(loaded.for_inference, batches, loaded.precision)
        order = [loaded.checkpoint.classes.index(name) for name in classes]
        probabilities = loaded.checked(logits).double().softmax(dim=1)[:, order].tolist()
        rows |= zip(members[readable].tolist(), probabilities, strict=True)
        unreadable += len(members) - len(readable)
        held_out = len(plan["test"].indices(dataset)) if "test" in plan and plan["test"].found == "train" else 0
        emit(TaskProgress(task="predicting out of fold", done=number, total=len(folds)))
    _write(path, dataset, rows)
    in_no_fold = total - len(rows) - held_out - unreadable
    left_out = {
        "held out for testing": held_out,
        "cannot be read": unreadable,
        "in no fold, because their class has too few": in_no_fold,
    }
    return OutOfFold(path=path, images=len(rows), labelled=total, left_out=left_out)


def _write(path: Path, dataset: Dataset, rows: dict[int, list[float]]) -> None:
    classes, names, labels = dataset.facts.classes, dataset.names("train"), dataset.labels("train")
    lines = [["path", "truth", "prediction", *(f"{PROBABILITY}{name}" for name in classes)]]
    for at, probabilities in sorted(rows.items()):
        best = max(range(len(classes)), key=probabilities.__getitem__)
        cells = [safe_cell(str(names[at])), safe_cell(classes[labels[at]]), safe_cell(classes[best])]
        lines.append([*cells, *(f"{value:.9g}" for value in probabilities)])
    write_text(path, csv_text(lines))
