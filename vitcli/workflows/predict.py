"""Prediction of the classes of images, and of the test images of a competition."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from vitcli.core.addresses import shown_address, without_secrets
from vitcli.core.calibration import Calibration, check_share
from vitcli.core.errors import DataError, ModelError, UsageError, counted, visible
from vitcli.core.events import Emit, Note, Warned, ignore
from vitcli.core.files import write_text
from vitcli.core.notebooks import html_table
from vitcli.data.dataset import open_dataset
from vitcli.data.image_addresses import fetch_images
from vitcli.data.image_files import found_images, is_address
from vitcli.data.registry import find_dataset
from vitcli.data.sources.image_search import PassedOver, in_order
from vitcli.data.store import data_dir
from vitcli.data.submission import find_form
from vitcli.judging.file_probabilities import mean_probabilities
from vitcli.trained.loading import LoadedModel, load_models, names_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """One image: its most probable classes, by falling probability (0..1), or the reason why it could not be read."""

    path: Path | str
    """The file, or the web address without its secrets."""
    classes: tuple[str, ...] = ()
    """The most probable classes, or with ``sets`` those of the set."""
    probabilities: tuple[float, ...] = ()
    """Probabilities of these classes."""
    is_unknown: bool = False
    """True: the probability of the first class is too low for an answer."""
    error: str = ""

    @property
    def reason(self) -> str:
        """The error without the path, beside which it is shown; an address is in it without its query."""
        for name in (str(self.path), without_secrets(str(self.path))):
            if found := re.fullmatch(rf"could not reach \S+ \((.*)\) for {re.escape(name)}", self.error):
                return f"it cannot be reached: {found[1]}"
            if self.error.startswith(f"{name} "):
                return f"it {self.error.removeprefix(f'{name} ')}"
            if self.error.endswith(f": {name}"):
                return self.error.removesuffix(f": {name}")
        return self.error


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictResult:
    """The predictions: one row per image, in the given order."""

    model: str
    """The name of the model; if several are averaged, all names."""
    rows: tuple[Prediction, ...]
    """The prediction of each image."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """The number of files in folders that are not images, by kind."""

    def __repr__(self) -> str:
        bad = sum(bool(row.error) for row in self.rows)
        unread = f", {bad:,} could not be read" if bad else ""
        images = counted(len(self.rows), "image")
        return visible(f"<PredictResult of {self.model}: {images}{unread}>")

    def _repr_html_(self) -> str:
        cells: list[tuple[str, str, str]] = []
        for row in self.rows:
            if row.error:
                cells.append((str(row.path), f"error: {row.reason}", ""))
            for rank, (name, share) in enumerate(zip(row.classes, row.probabilities, strict=True)):
                shown = f"unknown ({name}?)" if row.is_unknown and not rank else name
                cells.append(("" if rank else str(row.path), shown, f"{100 * share:.2f} %"))
        return html_table(cells, headings=("image", "class", "probability"))


def predict(
    inputs: Sequence[str],
    *,
    model: str = "",
    top_k: int = 1,
    min_confidence: float = 0.0,
    coverage: float | None = None,
    sets: float | None = None,
    output_dir: Path = Path("experiments"),
    device: str = "auto",
    batch_size: int = 64,
    allow_urls: bool = False,
    offline: bool = False,
    emit: Emit = ignore,
) -> PredictResult:
    """Predict the class of each image; an image that cannot be read gets an error instead of classes.

    Args:
        inputs: files, folders and patterns; with ``allow_urls``, web addresses too. The row of one that does not exist
            has an error.
        model: a run or checkpoint; empty: the newest finished run; for a group, or a pattern such as
            ``RUN/fold-*``, the probabilities of all models are averaged.
        top_k: the number of classes per image.
        min_confidence: mark images as unknown whose best class has a lower probability.
        coverage: mark the least sure images as unknown, so that this share of images like the validation images is
            answered; the model must be calibrated.
        sets: give each image the set of classes that has the true class with at least this probability, for images like
            the validation images (split-conformal prediction); the model must be calibrated.
        output_dir: the folder of all runs.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images per batch.
        allow_urls: fetch images from web addresses.
        offline: download nothing.
        emit: receives the progress.

    Raises:
        UsageError, ModelError, RunError, DeviceError: the model or the device does not exist, or a number is below 1.
        DataError: none of the inputs exists.
    """
    _check_numbers(top_k, batch_size, min_confidence, coverage=coverage, sets=sets)
    if not inputs:
        raise UsageError("no images are given", hint="give files, folders or patterns")
    passed_over: PassedOver = {}
    addresses = list(dict.fromkeys(text for text in inputs if allow_urls and is_address(text)))
    if addresses and offline:
        raise DataError(f"{without_secrets(addresses[0])} must not be fetched", hint="leave out --offline")
    files = {text: found_images(text, emit, passed_over) for text in dict.fromkeys(inputs) if text not in addresses}
    missing = [found for found in files.values() if isinstance(found, DataError)]
    if missing and len(missing) == len(files) and not addresses:
        raise missing[0]
    models = load_models(model, output_dir=output_dir, device=device, offline=offline, emit=emit)
    answer = partial(_row, top_k=top_k, names=models[0].checkpoint.classes, min_confidence=min_confidence)
    if coverage is not None:
        least = _calibration(models).least_confidence(coverage)
        if least == -math.inf:
            emit(Warned(text=f"all are answered: {100 * coverage:g} % needs more validation images to find the others"))
        else:
            emit(
                Note(
                    text=f"unknown: images whose best class has a probability of at most {least:.4f}, so that {100 * coverage:g} % of"
                    " images like the validation images are answered"
                )
            )
        answer = partial(answer, min_confidence=max(min_confidence, math.nextafter(least, math.inf)))
    if sets is not None:
        least = _calibration(models).least_probability(sets)
        what = f"all classes with a probability of at least {max(least, 0):.4f}, or else the most probable class"
        emit(Note(text=f"sets: the set of an image has {what}"))
        answer = partial(answer, least_in_set=least)
    with TemporaryDirectory() as folder:
        fetched = dict(zip(addresses, fetch_images(addresses, Path(folder), emit), strict=True)) if addresses else {}
        named: list[tuple[Path | str, Path | DataError]] = []
        for text in inputs:
            found_here = fetched[text] if text in fetched else files[text]
            named += [(file, file) for file in found_here] if isinstance(found_here, list) else [(text, found_here)]
        places = dict(named)
        if repeated := len(named) - len(places):
            emit(Note(text=f"{counted(repeated, 'image is')} repeated: each image has one row"))
        good = [place for place in places.values() if isinstance(place, Path)]
        results = iter(list(mean_probabilities(good, models, batch_size, emit)))
        found = [place if isinstance(place, DataError) else next(results) for place in places.values()]
    rows = [answer(name, each, place) for (name, place), each in zip(places.items(), found, strict=True)]
    counts = {kind: len(names) for kind, names in in_order(passed_over, Path()).items()}
    return PredictResult(model=names_of(models), rows=tuple(rows), passed_over=counts)


def _check_numbers(
    top_k: int, batch_size: int, min_confidence: float, *, coverage: float | None, sets: float | None
) -> None:
    """Raise UsageError if a number is out of range, whatever the model is."""
    if top_k < 1 or batch_size < 1:
        raise UsageError(f"--top-k {top_k} and --batch-size {batch_size} are not both 1 or more", hint="leave them out")
    if not 0 <= min_confidence <= 1:
        raise UsageError(f"--min-confidence {min_confidence:g} is not in [0, 1]", hint="--min-confidence 0.9")
    if sets is not None and top_k > 1:
        raise UsageError(f"--sets {sets:g} chooses the number of classes", hint=f"leave out --top-k {top_k}")
    for name, share in (("coverage", coverage), ("sets", sets)):
        if share is not None:
            check_share(name, share)


def _calibration(models: Sequence[LoadedModel]) -> Calibration:
    """Return the calibration of a single model; raise UsageError if there is none."""
    first = models[0]
    if len(models) > 1:
        raise ModelError("an average of models is not calibrated", hint=f"--model {first.typed}")
    if not first.checkpoint.calibration:
        raise ModelError(f"{first.name} is not calibrated", hint=f"first `vit eval --calibrate --model {first.typed}`")
    return first.checkpoint.calibration


def _row(
    path: Path | str,
    found: Tensor | DataError,
    place: Path | DataError,
    *,
    top_k: int,
    names: Sequence[str],
    min_confidence: float,
    least_in_set: float | None = None,
) -> Prediction:
    """Make the row of an image; one that was fetched is called by its address, without its secrets."""
    shown = shown_address(path) if isinstance(path, str) else path
    if isinstance(found, DataError):
        is_fetched = isinstance(path, str) and isinstance(place, Path)
        error = found.message.replace(str(place), without_secrets(str(path))) if is_fetched else found.message
        return Prediction(path=shown, error=error)
    count = top_k if least_in_set is None else max(int((found >= least_in_set).sum()), 1)
    values, indices = found.topk(min(count, len(names)))
    return Prediction(
        path=shown,
        classes=tuple(names[index] for index in indices.tolist()),
        probabilities=tuple(values.tolist()),
        is_unknown=float(values[0]) < min_confidence,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class SubmissionResult:
    """A file of predictions for a competition."""

    model: str
    path: Path
    """The file that was written."""
    images: int
    columns: tuple[str, ...]
    """The column of image names, then one column of labels, or those of probabilities."""
    competition: str
    """The name of the competition; empty: not known."""


def predict_submission(
    path: Path,
    *,
    model: str = "",
    output_dir: Path = Path("experiments"),
    directory: str = "",
    device: str = "auto",
    batch_size: int = 64,
    probabilities: bool = False,
    offline: bool = False,
    emit: Emit = ignore,
) -> SubmissionResult:
    """Predict the test images of the competition that the model was trained for, and write the file to submit.

    Args:
        path: the CSV file to write.
        model: the model, as for ``predict``.
        output_dir: the folder of all runs.
        directory: the folder of data sets; empty: as in training.
        device: auto, cpu, cuda, cuda:N or mps.
        batch_size: images per batch.
        probabilities: write probabilities also where the sample submission has one column of labels; of labels 0 and
            1, they are written without being asked for if that column has fractions.
        offline: download nothing.
        emit: receives the progress.

    Raises:
        DataError: the data set has no file to fill in, or no test images without labels, or one cannot be read.
        ModelError: the data set of the model is not known.
    """
    models = load_models(model, output_dir=output_dir, device=device, offline=offline, emit=emit)
    config = models[0].data
    if not config.name:
        raise ModelError(f"{models[0].name} was not trained with vit, so its competition is not known")
    kept_in = config.dir if Path(config.dir).is_dir() else ""
    dataset = open_dataset(config, directory=data_dir(directory or kept_in), offline=offline, emit=emit)
    if dataset.raw is None or dataset.raw.root is None or "test" in dataset.facts.counts:
        raise DataError(
            f"{config.name} is not a competition: it has no test images without labels",
            hint="`vit eval` evaluates the model on images with labels",
        )
    form = find_form(dataset.raw.root, emit)
    form.check_file(path)
    results = list(mean_probabilities([file for _, file in form.rows], models, batch_size, emit))
    if bad := [result for result in results if isinstance(result, DataError)]:
        what = f"{counted(len(bad), 'test image')} cannot be read"
        raise DataError(f"{what}: {bad[0].message}", hint="download the data again")
    classes = models[0].checkpoint.classes
    calls = dict(zip(dataset.raw.classes, dataset.raw.values or dataset.raw.classes, strict=True))
    values = [calls.get(name, name) for name in classes]
    found = [row.tolist() for row in results if not isinstance(row, DataError)]
    columns, text = form.filled(classes, values, found, with_probabilities=probabilities)
    if form.has_positive_probability(values, with_probabilities=probabilities):
        why = "" if probabilities else ", because the sample submission has fractions"
        emit(Note(text=f"column {columns[1]}: the probability of label 1{why}"))
    elif form.has_fractions and not probabilities:
        what = f"column {columns[1]} has labels, but fractions in the sample submission"
        emit(Warned(text=f"{what}; --probabilities writes a column for every class"))
    write_text(path, text)
    entry = find_dataset(config.name)
    competition = entry.kaggle if entry and "/" not in entry.kaggle else ""
    return SubmissionResult(
        model=names_of(models),
        path=path,
        images=len(results),
        columns=columns,
        competition=competition.removeprefix("kaggle:"),
    )
