"""Evaluation of a trained model on a split, by default one that was not used to choose it."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from vitcli.core.errors import DataError, visible
from vitcli.core.events import Emit, TaskProgress, Warned, ignore
from vitcli.core.files import write_json
from vitcli.core.notebooks import html_picture, html_table
from vitcli.core.registry import load_object
from vitcli.core.run_search import folds_with
from vitcli.core.runs import evaluation_file, figure_file, slug
from vitcli.data.loader import Batches
from vitcli.data.raw import SplitName
from vitcli.engine.evaluate import in_micro_batches
from vitcli.engine.metrics import Metrics, Tally
from vitcli.engine.micro_batches import MicroBatches
from vitcli.trained.judged_images import AskedSplit, JudgedImages, choose_images, labels_of_model
from vitcli.trained.loading import LoadedModel, load_models, names_of


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalResult:
    """The metrics of a model, or of the mean of several, on one split, and the files that store them."""

    model: str
    """The name of the model; if several are averaged, all names."""
    models: int
    """The number of models that are averaged."""
    checkpoint: Path
    """The checkpoint of the first model."""
    dataset: str
    split: SplitName
    held_out: bool | None
    """True if the images had no part in training: none was trained on, chose an epoch, or was scored on the way; None:
    not known, because they are of another data set."""
    metrics: Metrics
    stored: Path | None
    """The JSON file in the run or the cross-validation; None: the checkpoint is outside of runs."""
    figure: Path | None

    def __repr__(self) -> str:
        metrics = self.metrics
        score = f"top-1 {100 * metrics.top1:.2f} % of {metrics.images:,} {self.split} images of {self.dataset}"
        return visible(f"<EvalResult {self.model}: {score}>")

    def _repr_html_(self) -> str:
        metrics = self.metrics
        rows = (
            ("model", self.model),
            (
                "data",
                f"{self.dataset}, {self.split} split, {metrics.images:,} images"
                + (" (not held out)" if self.held_out is False else ""),
            ),
            ("loss", f"{metrics.loss:.4f}"),
            ("top-1", f"{100 * metrics.top1:.2f} %"),
            *(
                [("top-5", f"{100 * metrics.top5:.2f} %")] if len(metrics.classes) > 5 else []
            ),  # else it is always 100 %
            ("macro F1", f"{100 * metrics.macro_f1:.2f} %"),
        )
        classes = [
            (each.name, f"{100 * each.recall:.2f} %" if each.images else "-", f"{each.correct:,} of {each.images:,}")
            for each in metrics.classes
        ]
        headings = ("class", "accuracy", "right")
        return html_table(rows) + html_table(classes, headings=headings) + html_picture(self._repr_png_())

    def _repr_png_(self) -> bytes | None:
        """Return the confusion matrix; None if there is no figure, or not any more."""
        try:
            return self.figure.read_bytes() if self.figure else None
        except OSError:
            return None


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
        model: a run or checkpoint; empty: the newest finished run; for a cross-validation, or a pattern such as
            ``RUN/fold-*``, the probabilities of all models are averaged.
        split: the split to evaluate on; auto: the test split, else the validation split.
        output_dir: the folder of all runs.
        directory: the folder of data sets; empty: as in training.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images per batch.
        offline: download nothing.
        table: settings of DataConfig for reading a table of labels: ``labels``, ``image_column``, ``label_column`` and
            ``label_map``; None: as in training.
        emit: receives the progress.

    Raises:
        UsageError, ModelError, RunError, DeviceError: the model, its data set or the device does not exist.
        DataError: the data set has no such split, or classes that the model does not know; or some of several models
            were trained on these images.
    """
    # Load the models, and choose images; several models must not have seen them in training
    models = load_models(model, output_dir=output_dir, device=device, offline=offline, emit=emit)
    loaded = models[0]
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
    _refuse_seen(models, chosen)
    held_out = None
    if chosen.is_own:
        was_scored = any(model.data.val_split == "test" for model in models)
        held_out = chosen.split == "test" and not was_scored
        if chosen.split == "test" and was_scored:
            emit(
                Warned(text="not held out: these test images were scored after every epoch, though they chose nothing")
            )

    # Evaluate
    folder = _folder_of(models)
    with ThreadPoolExecutor(1) as pool:  # matplotlib is imported while the model computes
        drawing = pool.submit(load_object, "vitcli.figures.confusion:draw_confusion") if folder else None
        metrics = _judge(models, chosen, batch_size, emit)

    # Store the numbers and the figure
    stem = chosen.split if chosen.is_own else f"{slug(chosen.dataset.facts.name)}-{chosen.split}"
    if len(models) == 1 and loaded.run and loaded.path.resolve() != loaded.run.best_checkpoint.resolve():
        stem += f"-{loaded.path.stem}"  # names without a suffix are for the best epoch
    stored = figure = None
    if folder and drawing:
        facts = {
            "dataset": chosen.dataset.facts.name,
            "split": chosen.split,
            "held_out": held_out,
            "model": names_of(models),
            "checkpoint": loaded.path.name,
            "epoch": loaded.checkpoint.provenance.get("epoch") if len(models) == 1 else None,
            "precision": loaded.precision.name,
        }
        called = loaded.name if len(models) == 1 else f"the mean of {names_of(models)}"
        title = f"{called}: {100 * metrics.top1:.2f} % of {metrics.images:,} {chosen.split} images"
        draw = drawing.result()
        try:
            write_json(evaluation_file(folder, stem), {**facts, **asdict(metrics)})
            stored = evaluation_file(folder, stem)
            draw(metrics.confusion, loaded.checkpoint.classes, figure_file(folder, f"confusion-{stem}"), title=title)
            figure = figure_file(folder, f"confusion-{stem}")
        except OSError as error:  # the numbers can be shown all the same
            emit(Warned(text=f"the result could not be stored in {folder}: {error.strerror or error}"))
    return EvalResult(
        model=names_of(models),
        models=len(models),
        checkpoint=loaded.path,
        dataset=chosen.dataset.facts.name,
        split=chosen.split,
        held_out=held_out,
        metrics=metrics,
        stored=stored,
        figure=figure,
    )


def _refuse_seen(models: Sequence[LoadedModel], chosen: JudgedImages) -> None:
    """Refuse to evaluate several models on images that one of them was trained on: folds share only the test images."""
    if len(models) == 1 or not chosen.is_own:
        return
    splits = [each.run.split if each.run else None for each in models]
    held_out = [(split["fingerprint"], split["held_out"].get("test")) for split in splits if split]
    are_alike = len(held_out) == len(models) and all(each == held_out[0] for each in held_out)
    if chosen.split != "test" or not are_alike:
        raise DataError(
            f"some of these {len(models)} models were trained on images that others held out, so their mean cannot"
            f" be evaluated on these {chosen.split} images",
            hint=f"`vit eval --model {models[0].name}` evaluates one; `vit eval DATASET` uses other images",
        )


@torch.inference_mode()
def _judge(models: Sequence[LoadedModel], chosen: JudgedImages, batch_size: int, emit: Emit) -> Metrics:
    """Compute the metrics of the models' mean probabilities, by the first model's classes."""
    classes = models[0].checkpoint.classes
    batches = [_batches(model, chosen, classes, batch_size, emit) for model in models]
    orders = [_order(model.checkpoint.classes, classes) for model in models]
    several = [MicroBatches(1, emit=emit) for _ in models]
    tally, task, done = Tally(classes), f"evaluating on {chosen.dataset.facts.name} ({chosen.split})", 0
    emit(TaskProgress(task=task, done=0, total=batches[0].num_images))
    for inputs in zip(*batches, strict=True):  # one batch of each model
        total, labels = torch.empty(0), inputs[0][1].cpu()
        for model, (images, _), order, parts in zip(models, inputs, orders, several, strict=True):
            logits = model.checked(in_micro_batches(model.model, images, model.precision, parts)).cpu()
            if len(models) > 1:
                logits = logits.double().log_softmax(dim=1)[:, order] - math.log(len(models))
            total = logits if not len(total) else torch.logaddexp(total, logits)
        tally.add(total, labels)
        done += len(labels)
        emit(TaskProgress(task=task, done=done, total=batches[0].num_images))
    return tally.metrics()


def _order(known: tuple[str, ...], classes: tuple[str, ...]) -> torch.Tensor:
    """Return the indices of ``classes`` among the known ones."""
    index = {name: at for at, name in enumerate(known)}
    return torch.tensor([index[name] for name in classes])


def _batches(
    model: LoadedModel, chosen: JudgedImages, classes: tuple[str, ...], batch_size: int, emit: Emit
) -> Batches:
    """Make batches of a model's input, and of labels as indices of ``classes``."""
    images = chosen.prepared(model.checkpoint.preprocessing.geometry, emit)
    return Batches(
        images.images,
        labels_of_model(images, chosen.dataset.facts.classes, classes),
        members=torch.from_numpy(images.readable()),
        batch_size=batch_size,
        transform=model.to_input,
        device=model.device,
    )


def _folder_of(models: Sequence[LoadedModel]) -> Path | None:
    """Return the folder for the results: the run of one model, or a cross-validation if these are all finished folds.

    None: there is no such folder.
    """
    runs = [model.run for model in models if model.run]
    if len(models) == 1:
        return runs[0].path if runs else None
    finished = {fold.path.resolve() for fold in folds_with(runs[0]) if fold.status == "finished"} if runs else set()
    return runs[0].path.parent if {run.path.resolve() for run in runs} == finished else None
