"""Judge a trained model on a split that did not choose it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vitcli.core.events import Emit, TaskProgress, ignore
from vitcli.core.files import write_json
from vitcli.core.runs import slug
from vitcli.data.loader import Batches
from vitcli.data.raw import SplitName
from vitcli.engine.evaluate import predict_logits
from vitcli.engine.metrics import Metrics, compute_metrics
from vitcli.figures.confusion import draw_confusion
from vitcli.workflows.judged_images import AskedSplit, choose_images, labels_of_model
from vitcli.workflows.loading import load_model


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalResult:
    """The metrics of one model on one split, and where they are stored."""

    model: str
    checkpoint: Path
    dataset: str
    split: SplitName
    metrics: Metrics
    stored: Path | None
    """The JSON file in the run; None for a checkpoint that lies in no run."""
    figure: Path | None


def evaluate(
    *,
    dataset: str = "",
    model: str = "",
    split: AskedSplit = "auto",
    output_dir: Path = Path("experiments"),
    directory: str = "",
    device: str = "auto",
    batch_size: int = 256,
    offline: bool = False,
    table: Mapping[str, str] | None = None,
    emit: Emit = ignore,
) -> EvalResult:
    """Evaluate a model, store the numbers in its run and draw the confusion matrix.

    Args:
        dataset: a data set or folder; empty: the one that the model was trained on.
        model: a run or checkpoint; empty: the newest finished run.
        split: auto takes the test split, else the validation split.
        output_dir: where runs are.
        directory: where data sets are kept; empty: as in training.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images per batch.
        offline: fetch no weights.
        table: how a table of labels is read, if not as in training: ``labels``, ``image_column``, ``label_column`` and
            ``label_map`` of DataConfig.
        emit: told about the progress.

    Raises:
        DataError: the data set has no such split, or other classes than the model.
    """
    loaded = load_model(model, output_dir=output_dir, device=device, offline=offline, emit=emit)
    chosen = choose_images(
        loaded,
        dataset=dataset,
        split=split,
        directory=directory,
        offline=offline,
        hint=f"vit eval DATASET --model {model}",
        table=table,
        emit=emit,
    )
    images = chosen.prepared(loaded.checkpoint.preprocessing.geometry, emit)
    labels = labels_of_model(images, chosen.dataset.facts.classes, loaded.checkpoint.classes)
    batches = Batches(
        images.images,
        labels,
        members=torch.from_numpy(images.readable()),
        batch_size=batch_size,
        transform=loaded.to_input,
        device=loaded.device,
    )
    task, total, done = f"evaluating on {chosen.dataset.facts.name} ({chosen.split})", batches.num_images, 0
    emit(TaskProgress(task=task, done=0, total=total))

    def on_batch(count: int) -> None:
        nonlocal done
        done += count
        emit(TaskProgress(task=task, done=done, total=total))

    logits, targets = predict_logits(loaded.model, batches, loaded.precision, on_batch)
    metrics = compute_metrics(logits, targets, loaded.checkpoint.classes)
    stem = chosen.split if chosen.is_own else f"{slug(chosen.dataset.facts.name)}-{chosen.split}"
    if loaded.run and loaded.path.resolve() != loaded.run.best_checkpoint.resolve():
        stem += f"-{loaded.path.stem}"  # the plain names are those of the best epoch
    stored = figure = None
    if loaded.run:
        stored, figure = loaded.run.evaluation(stem), loaded.run.figure(f"confusion-{stem}")
        write_json(
            stored,
            {
                "dataset": chosen.dataset.facts.name,
                "split": chosen.split,
                "checkpoint": loaded.path.name,
                "epoch": loaded.checkpoint.provenance.get("epoch"),
                "precision": loaded.precision.name,
                **asdict(metrics),
            },
        )
        draw_confusion(
            metrics.confusion,
            loaded.checkpoint.classes,
            figure,
            title=f"{loaded.name}: {100 * metrics.top1:.2f} % of {metrics.images:,} {chosen.split} images",
        )
    return EvalResult(
        model=loaded.name,
        checkpoint=loaded.path,
        dataset=chosen.dataset.facts.name,
        split=chosen.split,
        metrics=metrics,
        stored=stored,
        figure=figure,
    )
