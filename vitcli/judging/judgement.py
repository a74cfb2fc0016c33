"""The part of a report that shows an evaluation: scores, classes, and pictures as far as there is room."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp

import numpy as np
from numpy.typing import NDArray

from vitcli.core.errors import counted
from vitcli.core.files import plain_cell, safe_cell
from vitcli.core.words import averaged, out_of_fold_in_words, percent
from vitcli.data.samples import whole_images
from vitcli.figures.offline_page import picture_address
from vitcli.figures.report_page import size_of
from vitcli.figures.report_sections import Judgement, Picture, Rows
from vitcli.judging.answers import Floats, Ints
from vitcli.judging.evaluated_runs import models_of
from vitcli.judging.intervals import Interval
from vitcli.judging.metrics import Metrics
from vitcli.judging.missing import NUMBERS, SHARES, missing_of_classes, missing_scores
from vitcli.judging.mistakes import most_telling, surest_of_each_class
from vitcli.judging.stored_evaluation import StoredEvaluation
from vitcli.trained.judged_images import JudgedImages

_LONGEST, _SMALL = 96, 64
"""Pixels of the longer side of a picture, at most, and those up to which it is stored without loss."""
_MOST_OF_PAIR = 100
"""Pictures of images with the same true and predicted class, at most."""
_AT_ONCE = 64
"""Pictures that are read at once."""
_TOP = 5
"""Number of classes up to which top-5 accuracy is not shown, because it is always 100 %."""
_EXPLAINED = dict.fromkeys(("roc_auc", "average_precision"), ", one class against the others") | {"loss": " (nats)"}
"""Additions to the names of scores, by their name in ``Metrics``."""
_NO_INTERVALS = "no intervals are computed for ROC-AUC and average precision"
Maps = Mapping[int, NDArray[np.uint8]]
"""Image -> its picture with a map, (C, H, W)."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AnsweredImages:
    """The images of a stored evaluation, N of them, with the answers to them."""

    names: Sequence[str]
    """Their names: files below the folder, or indices."""
    truth: Ints
    predicted: Ints
    confidence: Floats
    of_truth: Floats
    """The probabilities of the true classes."""
    members: Ints | None
    """Their places in their split on disk, -1 for images that are gone; None: the data are not here."""

    def worst(self, most: int) -> list[int]:
        """Return the images to draw maps of: the surest mistakes, of each class in turn."""
        chosen = surest_of_each_class(self.truth, self.predicted, self.confidence, most)
        return [] if self.members is None else [at for at in chosen.tolist() if self.members[at] >= 0]


def answered_images(stored: StoredEvaluation, chosen: JudgedImages | None) -> AnsweredImages:
    """Collect the answers of a stored evaluation, and find the images.

    Args:
        stored: the evaluation.
        chosen: the images of the split; None: they are not here.
    """
    classes = {safe_cell(each.name): at for at, each in enumerate(stored.metrics.classes)}
    answers = stored.answers.values()
    members = None
    if chosen:
        indices = chosen.subset.indices(chosen.dataset)
        known = dict(zip(map(_in_table, chosen.dataset.names(chosen.subset.found, indices)), indices, strict=True))
        members = np.array([known.get(name, -1) for name in stored.answers], dtype=np.int64)
    return AnsweredImages(
        names=[plain_cell(name) for name in stored.answers],
        truth=np.array([classes[each.truth] for each in answers], dtype=np.int64),
        predicted=np.array([classes[each.prediction] for each in answers], dtype=np.int64),
        confidence=np.array([each.probability for each in answers]),
        of_truth=np.array([exp(-each.loss) for each in answers]),
        members=members,
    )


def _in_table(name: str | int) -> str:
    """Return the name of an image as the table of predictions writes it."""
    return safe_cell(name) if isinstance(name, str) else str(name)


def judgement_of(stored: StoredEvaluation, *, keeps_best: bool) -> Judgement:
    """Return what a report says about an evaluation, without pictures.

    Args:
        stored: the evaluation.
        keeps_best: validation images chose the epoch that is evaluated.
    """
    metrics, facts = stored.metrics, stored.facts
    temperature, calibrated = facts.get("temperature"), facts.get("calibrated", 0)
    fitted = (
        f"probabilities are calibrated, with the temperature {temperature:.3g}"
        if temperature
        else f"{calibrated} of {counted(len(models_of(facts)), 'model is')} calibrated"
        if calibrated
        else "not calibrated"
    )
    return Judgement(
        summary=images_in_words(stored, keeps_best=keeps_best),
        scores=score_rows(metrics),
        classes=[each.name for each in metrics.classes],
        class_rows=[
            (
                each.images,
                each.correct,
                each.recall if each.images else None,
                each.precision if each.predicted else None,
                each.f1 if each.images or each.predicted else None,
                each.roc_auc,
            )
            for each in metrics.classes
        ],
        missing_scores=sentences([*missing_scores(metrics), _NO_INTERVALS]),
        missing_of_classes=sentences(missing_of_classes(metrics)),
        confusion=metrics.confusion,
        bins=[(each.images, each.confidence, each.accuracy) for each in metrics.reliability],
        calibration=f"Expected calibration error {percent(metrics.ece)} in bins of equal width,"
        f" {percent(metrics.adaptive_ece)} in bins of equal size; Brier score {metrics.brier:.4f}; {fitted}.",
    )


def sentences(parts: Sequence[str]) -> str:
    """Join parts that begin with a small letter into sentences."""
    return " ".join(f"{part[:1].upper()}{part[1:]}." for part in parts)


def images_in_words(stored: StoredEvaluation, *, keeps_best: bool) -> str:
    """Say which images were judged, by how many models, and whether the images had a part in training."""
    metrics, facts = stored.metrics, stored.facts
    split = facts["split"]
    images = f"{counted(metrics.images, 'image')} of {facts['dataset']}"
    is_out_of_fold = facts.get("part") == "out-of-fold"
    what = (
        f"out-of-fold predictions, {images}"
        if is_out_of_fold
        else f"{images} ({'all images' if split == 'all' else f'{split} split'})"
    )
    held_out = facts.get("held_out")
    if is_out_of_fold:
        part = out_of_fold_in_words(keeps_best=keeps_best)
    elif held_out:
        part = "which had no part in training"
    elif held_out is None:
        part = "and it is not known whether they had a part in training"
    elif split == "val" and keeps_best:
        part = "which chose the epoch, so scores may be too high"
    elif split != "train":
        part = "which were scored after every epoch, though they chose nothing"
    else:
        part = "on which the model was trained, so scores are too high"
    left_out = facts.get("left_out")
    unknown = f"left out: {left_out:,} of classes that the model does not know" if left_out else ""
    return "; ".join(filter(None, (f"{what}, {part}", averaged(len(models_of(facts))), unknown)))


def score_rows(metrics: Metrics) -> Rows:
    """Format metrics for a table: metric, value and 95 % interval."""
    rows = [
        (words, percent(getattr(metrics, name)), _ends(metrics.intervals.get(name), is_share=True))
        for name, words in SHARES.items()
        if name != "top5" or len(metrics.classes) > _TOP
    ]
    numbers = [(name, words + _EXPLAINED.get(name, ""), getattr(metrics, name)) for name, words in NUMBERS.items()]
    return rows + [
        (words, "-" if value is None else f"{value:.4f}", _ends(metrics.intervals.get(name), is_share=False))
        for name, words, value in numbers
    ]


def joined_scores(several: Sequence[Metrics]) -> Rows:
    """Put the scores of several runs beside each other: metric, then the value of each; ``-``: it has no such score."""
    columns = [
        {metric: value if ends == "-" else f"{value} [{ends}]" for metric, value, ends in score_rows(each)}
        for each in several
    ]
    longest = max(columns, key=len)  # top-5 accuracy is only there for more than five classes
    return [(metric, *(column.get(metric, "-") for column in columns)) for metric in longest]


def _ends(ends: Interval | None, *, is_share: bool) -> str:
    if not ends:
        return "-"
    return " to ".join(percent(end) if is_share else f"{end:.4f}" for end in ends)


def with_pictures(
    judged: Judgement,
    images: AnsweredImages,
    chosen: JudgedImages | None,
    maps: Maps,
    *,
    room: int,
    map_legend: str,
    more_maps: str,
) -> Judgement:
    """Add pictures, the most telling first, while there is room, and say what is left out.

    Args:
        judged: what the report says about the evaluation.
        images: its images.
        chosen: the data set that has them; None: it is not here.
        maps: pictures of some images with maps of what the answer rests on.
        room: the bytes that pictures may take.
        map_legend: the meaning of the colours of the maps.
        more_maps: the command that draws maps of more mistakes; empty: this one drew as many as it may.
    """
    wrong = int((images.predicted != images.truth).sum())
    total = len(images.names)
    if not chosen:
        return replace(judged, pictures_note="There are no pictures, because the images are not on this machine.")
    order = most_telling(images.truth, images.predicted, images.confidence, most_of_pair=_MOST_OF_PAIR).tolist()
    pictures = list[Picture]()
    for at, pixels in _read(images, [*maps, *(at for at in order if at not in maps)], chosen):
        is_small = max(pixels.shape[1:]) <= _SMALL
        picture = Picture(
            name=images.names[at],
            truth=int(images.truth[at]),
            predicted=int(images.predicted[at]),
            confidence=float(images.confidence[at]),
            of_truth=float(images.of_truth[at]),
            address=picture_address(pixels, lossy=not is_small),
            map_address=picture_address(maps[at], lossy=True) if at in maps else "",
            is_small=is_small,
        )
        room -= size_of(picture)
        if room < 0:
            break
        pictures.append(picture)
    shown_wrong = sum(each.truth != each.predicted for each in pictures)
    shown_maps = sum(bool(each.map_address) for each in pictures)
    table = "the table of predictions in the run lists all images"
    more = f" `{more_maps}` draws more maps." if more_maps else " The page has no room for more." * (shown_maps > 0)
    more *= shown_maps < wrong
    which = (
        f"These are {shown_maps:,} of {counted(wrong, 'mistake')}: of each class, those that the model was surest of."
        if shown_maps < wrong
        else f"These are all {wrong:,} mistakes, the surest first."
        if wrong > 1
        else "This is the only mistake."
    )
    left_out = f"; left out of this page: {total - len(pictures):,}; {table}" if len(pictures) < total else ""
    return replace(
        judged,
        pictures=pictures,
        pictures_note="A number opens the pictures of its cell. They show"
        f" {shown_wrong:,} of {counted(wrong, 'mistake')}, the surest first, and {len(pictures) - shown_wrong:,} of"
        f" {total - wrong:,} right answers{left_out}.",
        worst_note=f"{which}{more}"
        if shown_maps
        else ("No image is answered wrongly." if not wrong else f"No maps were drawn.{more}"),
        map_legend=map_legend if shown_maps else "",
        more_maps=more_maps,
    )


def _read(
    images: AnsweredImages, wanted: Sequence[int], chosen: JudgedImages
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Read the pictures, a few at once; those that are gone or cannot be read are left out."""
    assert images.members is not None
    there = [at for at in wanted if images.members[at] >= 0]
    for start in range(0, len(there), _AT_ONCE):
        part = there[start : start + _AT_ONCE]
        members = images.members[part]
        found = whole_images(chosen.dataset, chosen.subset.found, members, longest=_LONGEST, skip_bad=True)
        yield from ((at, found[member]) for at, member in zip(part, members.tolist(), strict=True) if member in found)
