"""Evaluation of a trained model on a split, by default one that was not used to choose it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image
from torch import Tensor

from vitcli.attention.registry import DEFAULT_METHOD
from vitcli.core.errors import DeviceError, check_at_least, check_choice, counted, visible
from vitcli.core.events import Emit, Warned, ignore
from vitcli.core.notebooks import html_picture, html_table, picture_of
from vitcli.data.raw import SplitName
from vitcli.data.store import check_dataset
from vitcli.engine.micro_batches import MicroBatches
from vitcli.explaining.explainer import explain, images_at_once
from vitcli.explaining.maps import maps_of
from vitcli.explaining.overlays import targets_called
from vitcli.explaining.question import Question
from vitcli.figures.attention_sheets import draw_sheet
from vitcli.figures.attention_style import MapPicture, Style, Subject
from vitcli.judging.evaluation import Evaluated, count_calibrated, evaluate_models
from vitcli.judging.judge import VIEWS, Judged, Views
from vitcli.judging.metrics import Metrics
from vitcli.judging.mistakes import check_free_folder, least_sure, sort_mistakes, surest_mistakes
from vitcli.judging.out_of_fold import predictors
from vitcli.trained.judged_images import AskedSplit, JudgedImages, choose_images, counted_images
from vitcli.trained.loading import LoadedModel, are_folds, load_models, names_of

_SHOWN = 15
"""The number of images in a figure of mistakes."""


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
    split: SplitName | Literal["all"]
    """The split; all: all images of a data set that has no splits."""
    part: str
    """The images in a word: the split, or ``out-of-fold``, if each fold of a cross-validation predicts those that it was
    not trained on."""
    held_out: bool | None
    """True if the images had no part in training: none was trained on, chose an epoch, or was scored on the way; None:
    not known, because they are of another data set."""
    is_calibrated: bool
    """True if the probabilities of a model are calibrated, or those of one of several."""
    views: Views
    """Views of each image whose probabilities are averaged."""
    left_out: int
    """The number of images of classes that the model does not know."""
    metrics: Metrics
    files: Mapping[str, Path]
    """The files in the run or the group, by content; empty: the checkpoint is outside of runs."""
    sorted_mistakes: int | None
    """The number of images in the folder of mistakes; None: no folder was asked for."""

    def __repr__(self) -> str:
        metrics = self.metrics
        score = f"top-1 {100 * metrics.top1:.2f} % of {counted_images(metrics.images, self.part)} of {self.dataset}"
        return visible(f"<EvalResult {self.model}: {score}>")

    def images_in_words(self) -> str:
        """Describe the images: ``test split, 359 images``."""
        images = counted(self.metrics.images, "image")
        if self.part == "out-of-fold":
            return f"out-of-fold predictions, {images}"
        if self.part == "all":
            return f"all images ({self.metrics.images:,})"
        seen = "trained on" if self.split == "train" else "not held out"
        return f"{self.part} split, {images}{f' ({seen})' if self.held_out is False else ''}"

    def _repr_html_(self) -> str:
        metrics = self.metrics
        rows = (
            ("model", self.model),
            ("data", f"{self.dataset}, {self.images_in_words()}"),
            ("loss", f"{metrics.loss:.4f}"),
            ("top-1", f"{100 * metrics.top1:.2f} %"),
            *([("top-5", f"{100 * metrics.top5:.2f} %")] if len(metrics.classes) > 5 else []),  # else it is 100 %
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
        return picture_of(self.files["confusion figure"]) if self.files else None


def evaluate(
    *,
    dataset: str = "",
    model: str = "",
    split: AskedSplit = "auto",
    output_dir: Path = Path("experiments"),
    directory: str = "",
    device: str = "auto",
    batch_size: int = 256,
    views: Views = "none",
    classes: Literal["all", "shared"] = "all",
    mistakes: Path | None = None,
    links: bool = False,
    offline: bool = False,
    table: Mapping[str, str] | None = None,
    emit: Emit = ignore,
) -> EvalResult:
    """Evaluate a model; store numbers, a row for every image, and figures in its run.

    A cross-validation without test images is evaluated by its out-of-fold predictions.

    Args:
        dataset: a data set or folder; empty: the one that the model was trained on.
        model: a run or checkpoint; empty: the newest finished run; for a group, or a pattern such as
            ``RUN/fold-*``, the probabilities of all models are averaged.
        split: the split to evaluate on; auto: the test split, else the validation split.
        output_dir: the folder of all runs.
        directory: the folder of data sets; empty: as in training.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images per batch.
        views: views of each image whose probabilities are averaged.
        classes: all: the data may only have classes that the model knows; shared: judge only images of classes that
            both have, and choose among these.
        mistakes: a new folder, into which wrongly answered images are copied, by true and predicted class.
        links: make links instead of copies.
        offline: download nothing.
        table: settings of DataConfig for reading a table of labels: ``labels``, ``image_column``, ``label_column`` and
            ``label_map``; None: as in training.
        emit: receives the progress.

    Raises:
        UsageError, ModelError, RunError, DeviceError: the model, its data set or the device does not exist.
        DataError: the data set has no such split, or classes that the model does not know; or some of several models
            were trained on these images.
    """
    check_at_least("batch_size", batch_size, 1)
    check_choice("tta", views, VIEWS)
    check_choice("classes", classes, ("all", "shared"))
    check_dataset(dataset, labels=(table or {}).get("labels", ""), output_dir=output_dir)
    if mistakes:
        check_free_folder(mistakes)

    models = load_models(model, output_dir=output_dir, device=device, offline=offline, emit=emit)
    loaded = models[0]
    chosen = choose_images(
        models,
        dataset=dataset,
        split=split,
        directory=directory,
        offline=offline,
        hint=f"vit eval DATASET --model {model}",
        table=table,
        is_out_of_fold=are_folds(models),
        emit=emit,
    )
    done = evaluate_models(models, chosen, batch_size=batch_size, views=views, classes=classes, emit=emit)
    files = dict(done.files)
    if files:
        try:
            files |= _draw_mistakes(models, chosen, done)
        except OSError as error:  # the numbers can be shown all the same
            emit(Warned(text=f"the mistakes are not drawn: {error.strerror or error}"))
        except DeviceError as error:
            emit(Warned(text=f"the mistakes are not drawn: {error.message}"))
    return EvalResult(
        model=names_of(models),
        models=len(models),
        checkpoint=loaded.path,
        dataset=chosen.dataset.facts.name,
        split="all" if chosen.are_all else chosen.split,
        part=chosen.part,
        held_out=done.held_out,
        is_calibrated=count_calibrated(models, chosen) > 0,
        views=views,
        left_out=done.judged.left_out,
        metrics=done.metrics,
        files=files,
        sorted_mistakes=_sorted(chosen, done.judged, mistakes, links=links, emit=emit) if mistakes else None,
    )


def _draw_mistakes(models: Sequence[LoadedModel], chosen: JudgedImages, done: Evaluated) -> dict[str, Path]:
    """Draw the surest mistakes and the least sure answers, each beside the attention map for its answer.

    The map is that of the first model; out of fold, that of the fold that predicted the image.
    """
    judged, places = done.judged, done.places
    assert places
    answers = judged.answers
    prepared = chosen.prepared(models[0].checkpoint.preprocessing.geometry, ignore)
    drawn = dict[str, Path]()
    members = chosen.subset.indices(chosen.dataset)[judged.positions]
    for name, what, shown in (
        ("mistakes", "surest mistakes", surest_mistakes(answers, _SHOWN)),
        ("unsure", "least sure answers (smallest margin first)", least_sure(answers, _SHOWN)),
    ):
        if not len(shown):
            continue
        path = places.figure(name)
        names = chosen.names(judged.positions[shown])
        pixels = prepared.take(judged.positions[shown]).pixels()
        pictures: dict[int, MapPicture] = {}
        for model, rows in predictors(models, chosen, members[shown]):
            given = [answers.classes[int(answers.predicted[shown[row]])] for row in rows]
            pictures |= zip(rows, _maps(model, pixels[rows], given), strict=True)
        subjects = [
            Subject(
                name=str(names[row]),
                pixels=pixels[row].numpy(),
                predicted=answers.classes[int(answers.predicted[at])],
                probability=float(answers.confidence[at]),
                truth=answers.classes[int(answers.truth[at])],
            )
            for row, at in enumerate(shown.tolist())
        ]
        title = f"{what}; accuracy of {done.title}"
        ordered = [pictures[row] for row in range(len(shown))]
        draw_sheet(subjects, ordered, path, Style(), title=title, counts_right=name != "mistakes")
        drawn[f"{name} figure"] = path
    return drawn


def _maps(loaded: LoadedModel, pixels: Tensor, given: Sequence[str]) -> list[MapPicture]:
    """Compute the attention map of each image, uint8, (N, C, H, W), for the class that was given as its answer."""
    question = Question(methods=(DEFAULT_METHOD,)).checked(loaded.model)
    inputs, targets = loaded.to_input(pixels.to(loaded.device)), targets_called(loaded, given)

    def explained(slices: list[slice]) -> list[MapPicture]:
        explanations = [explain(loaded.model, inputs[here], question, targets=targets[here]) for here in slices]
        return [
            found.picture
            for explanation in explanations
            for row in range(len(explanation.logits))
            for found in maps_of(explanation, row, question, loaded.checkpoint.classes)
        ]

    at_once = -(-len(pixels) // images_at_once(loaded.model.config))
    return MicroBatches(at_once, emit=ignore).fitted(explained, len(pixels))


def _sorted(chosen: JudgedImages, judged: Judged, folder: Path, *, links: bool, emit: Emit) -> int:
    """Sort the mistakes into the folder; images without files are saved as PNG files in their own size."""
    raw, found = chosen.dataset.raw, chosen.subset.found
    members = chosen.subset.indices(chosen.dataset)[judged.positions]
    every = raw.splits[found].files if raw else None

    def save(at: int, path: Path) -> None:
        geometry = chosen.dataset.facts.native_geometry
        assert geometry
        pixels = chosen.dataset.split(found, geometry, members=members[at : at + 1]).pixels()[0].numpy()
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(path)

    files = [every[at] for at in members.tolist()] if every else None
    return sort_mistakes(judged.answers, files, folder, links=links, save=save, emit=emit)
