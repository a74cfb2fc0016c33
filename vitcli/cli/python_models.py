"""The functions of ``import vitcli`` that use trained models, and download them; ``python_training`` has those that train."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from vitcli.cli.options import EXPERIMENTS
from vitcli.cli.python_training import StrPath, checked_options, showing
from vitcli.core.events import Emit

if TYPE_CHECKING:
    from vitcli.judging.judge import Views
    from vitcli.trained.judged_images import AskedSplit
    from vitcli.trained.loading import LoadedModel
    from vitcli.workflows.calibrate import CalibrationResult
    from vitcli.workflows.check_labels import LabelCheck
    from vitcli.workflows.download import DownloadResult, WeightsResult
    from vitcli.workflows.evaluate import EvalResult
    from vitcli.workflows.predict import PredictResult


@checked_options
def evaluate(
    dataset: StrPath = "",
    *,
    model: StrPath = "",
    split: "AskedSplit" = "auto",
    labels: StrPath | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    label_map: StrPath | None = None,
    batch_size: int = 256,
    tta: "Views" = "none",
    classes: Literal["all", "shared"] = "all",
    mistakes: StrPath | None = None,
    link: bool = False,
    output_dir: StrPath = EXPERIMENTS,
    data_dir: StrPath = "",
    device: str = "auto",
    offline: bool = False,
    quiet: bool = False,
    emit: Emit | None = None,
) -> "EvalResult":
    """Evaluate a model on images that it has not seen, as ``vit eval`` does; the numbers are stored in its run.

    Args:
        dataset: a data set or folder; empty: the one that the model was trained on.
        model: a run or its result, or weights; empty: the newest finished run.
        split: the split to evaluate on; auto: the test split, else the validation split.
        labels: a CSV file, or a list, of image names and labels; None: as in training, or as found.
        image_column: its column of image names.
        label_column: its column of labels.
        label_map: a JSON file that maps labels to class names.
        batch_size: images per batch.
        tta: views of each image to average over: none, flip or five.
        classes: all, or only those that the model and the data share.
        mistakes: a new folder for copies of the wrongly answered images.
        link: make links instead of copies.
        output_dir: the folder of all runs.
        data_dir: the folder of data sets; empty: as in training.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: download nothing.
        quiet, emit: as for ``train``.
    """
    asked = {"labels": labels, "image_column": image_column, "label_column": label_column, "label_map": label_map}
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.evaluate import evaluate as workflow

        return workflow(
            dataset=os.fspath(dataset),
            model=os.fspath(model),
            split=split,
            output_dir=Path(output_dir),
            directory=os.fspath(data_dir),
            device=device,
            batch_size=batch_size,
            views=tta,
            classes=classes,
            mistakes=Path(mistakes) if mistakes else None,
            links=link,
            offline=offline,
            table={key: os.fspath(value) for key, value in asked.items() if value is not None},
            emit=listener,
        )


@checked_options
def calibrate(
    model: StrPath = "",
    *,
    batch_size: int = 256,
    output_dir: StrPath = EXPERIMENTS,
    data_dir: StrPath = "",
    device: str = "auto",
    offline: bool = False,
    quiet: bool = False,
    emit: Emit | None = None,
) -> "CalibrationResult":
    """Fit the temperature of a model on its validation images, as ``vit eval --calibrate`` does first.

    Args:
        model: a run or its result, or a checkpoint; empty: the newest finished run.
        batch_size, output_dir, data_dir, device, offline, quiet, emit: as for ``evaluate``.
    """
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.calibrate import calibrate as workflow

        return workflow(
            model=os.fspath(model),
            output_dir=Path(output_dir),
            directory=os.fspath(data_dir),
            device=device,
            batch_size=batch_size,
            offline=offline,
            emit=listener,
        )


@checked_options
def check_labels(
    dataset: StrPath = "",
    *,
    model: StrPath = "",
    labels: StrPath | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    label_map: StrPath | None = None,
    on_bad_image: Literal["error", "skip"] | None = None,
    similarity: float | None = None,
    pictures: int = 200,
    output: StrPath | None = None,
    output_dir: StrPath = EXPERIMENTS,
    data_dir: StrPath = "",
    device: str = "auto",
    offline: bool = False,
    quiet: bool = False,
    emit: Emit | None = None,
) -> "LabelCheck":
    """Find likely label errors, near-duplicates, leaks between splits, and outliers, as ``vit check-labels`` does.

    Args:
        dataset: a data set or folder; empty: that of the cross-validation.
        model: a cross-validation, or a run or weights that were not trained on these images; empty: the newest
            cross-validation on these data, else the pixels are the features.
        labels, image_column, label_column, label_map: as for ``evaluate``.
        on_bad_image: error or skip.
        similarity: the cosine similarity from which images are near-duplicates; None: chosen by the data.
        pictures: the number of images on the web page, at most.
        output: the folder of the results; None: ``check-labels/DATASET`` in the folder of all runs.
        output_dir, data_dir, device, offline, quiet, emit: as for ``evaluate``.
    """
    asked = {
        "labels": labels,
        "image_column": image_column,
        "label_column": label_column,
        "label_map": label_map,
        "on_bad_image": on_bad_image,
    }
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.check_labels import check_labels as workflow

        return workflow(
            dataset=os.fspath(dataset),
            model=os.fspath(model),
            similarity=similarity,
            pictures=pictures,
            output=Path(output) if output else None,
            output_dir=Path(output_dir),
            directory=os.fspath(data_dir),
            device=device,
            offline=offline,
            table={key: os.fspath(value) for key, value in asked.items() if value is not None},
            emit=listener,
        )


@checked_options
def predict(
    images: StrPath | Sequence[StrPath],
    *,
    model: StrPath = "",
    top_k: int = 1,
    min_confidence: float = 0.0,
    coverage: float | None = None,
    sets: float | None = None,
    batch_size: int = 64,
    allow_urls: bool = False,
    output_dir: StrPath = EXPERIMENTS,
    device: str = "auto",
    offline: bool = False,
    quiet: bool = False,
    emit: Emit | None = None,
) -> "PredictResult":
    """Predict the class of each image, as ``vit predict`` does; an image that cannot be read gets an error instead.

    Args:
        images: a file, a folder, a pattern such as ``photos/*.jpg``, or several of them.
        model: a run or its result, weights, or ``best``; empty: the newest finished run.
        top_k, batch_size: the number of classes per image, and of images per batch.
        allow_urls: take web addresses too, and fetch the images.
        output_dir: the folder of all runs.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: download nothing.
        quiet, emit: as for ``train``.
    """
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.predict import predict as workflow

        return workflow(
            [os.fspath(each) for each in ([images] if isinstance(images, str | os.PathLike) else images)],
            model=os.fspath(model),
            top_k=top_k,
            min_confidence=min_confidence,
            coverage=coverage,
            sets=sets,
            output_dir=Path(output_dir),
            device=device,
            batch_size=batch_size,
            allow_urls=allow_urls,
            offline=offline,
            emit=listener,
        )


@checked_options
def load_model(
    model: StrPath = "",
    *,
    output_dir: StrPath = EXPERIMENTS,
    device: str = "auto",
    offline: bool = False,
    needs_head: bool = True,
    quiet: bool = False,
    emit: Emit | None = None,
) -> "LoadedModel":
    """Load a model for ``attention_map``, or for your own use: ``.model`` is a module of torch.

    Args:
        model: a run or its result, or weights; empty: the newest finished run.
        output_dir: the folder of all runs.
        device: auto, cpu, cuda, cuda:N or mps.
        offline: download nothing.
        needs_head: refuse a model without a classifier of two classes or more.
        quiet, emit: as for ``train``.
    """
    with showing(emit, quiet=quiet) as listener:
        from vitcli.trained.loading import load_model as workflow

        return workflow(
            os.fspath(model),
            output_dir=Path(output_dir),
            device=device,
            offline=offline,
            needs_head=needs_head,
            emit=listener,
        )


@checked_options
def download(
    name: str, *, data_dir: StrPath = "", offline: bool = False, quiet: bool = False, emit: Emit | None = None
) -> "DownloadResult | WeightsResult":
    """Download and verify a data set or pretrained weights, as ``vit download`` does.

    Args:
        name: a name of ``vit download``, ``kaggle:OWNER/NAME`` or ``hf:OWNER/NAME``.
        data_dir: the folder of data sets; empty: ``$VIT_DATA_DIR``, else the user's cache folder.
        offline: download nothing.
        quiet, emit: as for ``train``.
    """
    with showing(emit, quiet=quiet) as listener:
        from vitcli.workflows.download import download as workflow

        return workflow(name, directory=os.fspath(data_dir), offline=offline, emit=listener)
