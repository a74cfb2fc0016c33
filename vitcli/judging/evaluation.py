"""The evaluation of a model, or of the mean of several, on chosen images, and the files that store it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vitcli.core.calibration import Calibration
from vitcli.core.errors import DataError
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.files import ends
from vitcli.core.fingerprints import is_same_data
from vitcli.core.registry import load_object
from vitcli.core.run_files import EvaluationFile
from vitcli.core.runs import slug
from vitcli.core.stored import read_json
from vitcli.engine.doctor import ONE_CLASS
from vitcli.judging.judge import Judged, Views, judge
from vitcli.judging.metrics import Metrics, metrics_of
from vitcli.judging.out_of_fold import judge_out_of_fold
from vitcli.judging.results import ResultFiles, write_results
from vitcli.trained.judged_images import JudgedImages, counted_images
from vitcli.trained.loading import LoadedModel, folder_of, names_of

_ENOUGH = 20
"""Images from which one answer for all of them is told."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluated:
    """The answers of a model to a split, their metrics, and the files that store them."""

    judged: Judged
    metrics: Metrics
    held_out: bool | None
    """True if the images had no part in training; None: not known, because they are of another data set."""
    places: ResultFiles | None
    """The files of the evaluation; None: the checkpoint is outside of runs."""
    files: dict[str, Path]
    """The files that were written, by content; empty: none."""
    title: str
    """The title of figures."""


def evaluate_models(
    models: Sequence[LoadedModel],
    chosen: JudgedImages,
    *,
    batch_size: int,
    views: Views = "none",
    classes: Literal["all", "shared"] = "all",
    emit: Emit,
) -> Evaluated:
    """Evaluate a model, or the mean of several, and store numbers, tables and figures in its run.

    Args:
        models: the models.
        chosen: the images.
        batch_size: images per batch.
        views: views of each image.
        classes: all, or only those that the model and the data share.
        emit: receives the progress.

    Raises:
        DataError: some of several models were trained on these images, or the model does not know their classes.
        RunError: as for ``judge_out_of_fold``, if the images are judged out of fold.
    """
    loaded = models[0]
    group = folder_of(models) if chosen.is_out_of_fold else None
    if not group:
        _refuse_seen(models, chosen)
    held_out = _held_out(models, chosen, emit)
    calibration = calibration_for(models, chosen)
    _take_back_calibration(models, chosen, emit)
    if views != "none" and count_calibrated(models, chosen):
        emit(
            Note(
                text="the temperature was fitted on single views: with --tta, probabilities may be too low or too high"
            )
        )
    if views == "flip" and loaded.run and not loaded.run.config.get("augment", {}).get("flip"):
        emit(Warned(text="the model was not trained on mirrored images, so --tta flip may lower the accuracy"))

    # Compute the answers
    with ThreadPoolExecutor(1) as pool:  # matplotlib is imported while the model computes
        pool.submit(load_object, "vitcli.figures.reliability:draw_reliability")
        if group:
            judged = judge_out_of_fold(group, loaded, chosen, views=views, emit=emit)
        else:
            judged = judge(models, chosen, batch_size=batch_size, views=views, shared=classes == "shared", emit=emit)
        answers, names = judged.answers, chosen.names(judged.positions)
        metrics = metrics_of(answers, seed=loaded.checkpoint.provenance.get("seed", 0))

    favourite = max(metrics.classes, key=lambda each: each.predicted)
    always = favourite.images / metrics.images  # the accuracy of always giving this class
    if metrics.images >= _ENOUGH and favourite.predicted >= ONE_CLASS * metrics.images and metrics.top1 <= always < 1:
        share = f"{100 * favourite.predicted / metrics.images:.1f} % of the images get one and the same class"
        advice = "train longer, or with the rate that `vit train DATASET --find-lr` suggests"
        emit(Warned(text=f"{share}, {favourite.name}, so the model has learnt little: {advice}"))

    # Store numbers, tables and figures
    called = loaded.name if len(models) == 1 else f"the mean of {names_of(models)}"
    places, files = places_of(models, chosen, views=views, classes=classes), dict[str, Path]()
    called = group.name if group else called
    title = f"{called}: {100 * metrics.top1:.2f} % of {counted_images(metrics.images, chosen.part)}"
    if places:
        data, *table = chosen.words
        facts = {
            "dataset": chosen.dataset.facts.name,
            "data": data,
            "table": table,
            "fingerprint": chosen.dataset.facts.fingerprint,
            "split": "all" if chosen.are_all else chosen.split,
            "part": chosen.part,
            "found_in": chosen.subset.found,
            "held_out": held_out,
            "model": names_of(models),
            "models": [model.name for model in models],
            "checkpoint": loaded.path.name,
            "epoch": loaded.checkpoint.provenance.get("epoch") if len(models) == 1 else None,
            "precision": loaded.precision.name,
            "temperature": calibration.temperature if calibration else None,
            "calibrated": count_calibrated(models, chosen),
            "views": views,
            "class_choice": classes,
            "trained_on": chosen.seen.get("train", 0),
            "chose_epoch_by": chosen.seen.get("val", 0),
            "left_out": judged.left_out,
        }
        try:
            files = write_results(places, answers, metrics, names=names, facts=facts, title=title)
        except OSError as error:  # the numbers can be shown all the same
            emit(Warned(text=f"the result could not be stored in {places.folder}: {error.strerror or error}"))
    return Evaluated(judged=judged, metrics=metrics, held_out=held_out, places=places, files=files, title=title)


def _held_out(models: Sequence[LoadedModel], chosen: JudgedImages, emit: Emit) -> bool | None:
    """Tell whether the images had no part in training, and warn if that is in doubt; None: it is not known."""
    if not chosen.is_own:
        return None
    was_scored = any(model.data.val_split == "test" for model in models)
    if chosen.split == "test" and was_scored:
        emit(Warned(text="not held out: these test images were scored after every epoch, though they chose nothing"))
    return chosen.split == "test" and not was_scored


def calibration_for(models: Sequence[LoadedModel], chosen: JudgedImages) -> Calibration | None:
    """Return the calibration with which images are judged: that of a single model, unless these images fitted it."""
    is_fitted = chosen.is_own and chosen.split == "val"
    return models[0].checkpoint.calibration if len(models) == 1 and not is_fitted else None


def count_calibrated(models: Sequence[LoadedModel], chosen: JudgedImages) -> int:
    """Count the models whose probabilities are calibrated: none if these images fitted them, or were judged in training."""
    is_without = chosen.is_out_of_fold or (chosen.is_own and chosen.split == "val")
    return 0 if is_without else sum(model.checkpoint.calibration is not None for model in models)


def _take_back_calibration(models: Sequence[LoadedModel], chosen: JudgedImages, emit: Emit) -> None:
    """Judge validation images without the temperature that was fitted on them."""
    if chosen.is_out_of_fold or not (chosen.is_own and chosen.split == "val"):
        return
    fitted = [(model, each) for model in models if (each := model.checkpoint.calibration)]
    for model, each in fitted:
        model.model.divide_logits(1 / each.temperature)
    if fitted:
        emit(Note(text="the temperature was fitted on these images, so they are judged without it"))


def places_of(
    models: Sequence[LoadedModel], chosen: JudgedImages, *, views: Views = "none", classes: str = "all"
) -> ResultFiles | None:
    """Return the files that an evaluation is stored in; only those of the best epoch, as usual, have nothing added.

    None: the checkpoint is outside of runs.
    """
    loaded, folder = models[0], folder_of(models)
    if not folder:
        return None
    if chosen.is_out_of_fold:
        return ResultFiles(folder=folder, stem=chosen.part)
    added = (f"-{views}" if views != "none" else "") + ("-shared" if classes == "shared" else "")
    if len(models) == 1 and loaded.run and loaded.path.resolve() != loaded.run.best_checkpoint.resolve():
        added = f"-{loaded.path.stem}{added}"
    if chosen.is_own and not chosen.other_labels:
        return ResultFiles(folder=folder, stem=f"{chosen.split}{added}")
    name = f"{slug(chosen.dataset.facts.name)}-{chosen.part}"
    name += f"-{slug(chosen.other_labels)}" * bool(chosen.other_labels)
    files = (ResultFiles(folder=folder, stem=f"{name}{end}{added}") for end in ends())
    return next(each for each in files if _may_replace(each, chosen))


def _may_replace(files: ResultFiles, chosen: JudgedImages) -> bool:
    """Tell whether these files hold no evaluation of another data set, whose folder has the same name."""
    try:
        stored = read_json(files.metrics, EvaluationFile)
    except (OSError, ValueError):
        return True
    is_same = is_same_data(stored.get("fingerprint"), chosen.dataset.facts.fingerprint)
    return is_same or stored.get("data") in {None, chosen.words[0]}


def _refuse_seen(models: Sequence[LoadedModel], chosen: JudgedImages) -> None:
    """Refuse to evaluate several models on images that one of them was trained on: they may share only the test images."""
    if len(models) == 1 or not chosen.is_own:
        return
    split = chosen.split
    splits = [each.run.split if each.run else None for each in models]
    held_out = [(each["fingerprint"], each["held_out"].get(split)) for each in splits if each]
    are_alike = len(held_out) == len(models) and all(each == held_out[0] for each in held_out)
    if split == "train" or not are_alike:
        raise DataError(
            f"some of these {len(models)} models were trained on images that others held out, so their mean cannot"
            f" be evaluated on these {split} images",
            hint=f"`vit eval --model {models[0].typed}` evaluates one; `vit eval DATASET` uses other images",
        )
