"""Scores that tell which method to trust for a model: maps are tested on many images and compared with noise."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vitcli.attention.faithfulness import HIGHER_IS_BETTER, energy_inside, points_at, score_maps
from vitcli.attention.intervals import Interval, bootstrap
from vitcli.core.errors import DataError, ModelError, UsageError
from vitcli.core.events import Emit, TaskProgress, ignore
from vitcli.explaining.explainer import Explainer
from vitcli.explaining.question import Question
from vitcli.models.vit import VisionTransformer

NOISE = "random"
"""The method that all other methods are compared with."""
ENOUGH = 20
"""The least number of images for trusting a method: with fewer, the intervals are too narrow."""
ADVISED = 200
"""The number of images from which a decision can be made: with fewer, other images may favour another method."""
SAME = 0.01
"""The largest difference between two gains that count as the same."""
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedBatch:
    """A batch of images to score maps with, on the model's device."""

    images: Tensor
    """The model's input, (B, C, H, W)."""
    labels: Tensor | None = None
    """The true classes, (B,); None: the target class counts as right."""
    masks: Tensor | None = None
    """The pixels of the object, (B, H, W); all batches have masks, or none has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageScores:
    """The scores of the maps of one image."""

    image: int
    """The number of the image, from 0."""
    target: int
    """The class that the maps explain."""
    scores: Mapping[str, Mapping[str, float]]
    """The values: method -> score -> value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreSummary:
    """One score of a method over all images."""

    value: Interval
    """The mean of the score."""
    gain: Interval | None
    """The gain over noise on the same images: above 0 is better, also for scores whose lower values are better.

    None: the score has no better or worse values.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodScores:
    """The scores of one method over all images."""

    method: str
    scores: Mapping[str, ScoreSummary]
    """By name: the faithfulness scores, ``sink_share``, and with masks ``points_at`` and ``energy_inside``."""
    gain: Interval
    """The mean gain over noise in all faithfulness scores; the intervals of all methods hold together at 95 %."""
    beats_random: bool
    """True: the whole interval of the gain is above 0, and there are enough images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreTable:
    """The scores of all methods, the greatest gain first, noise last."""

    rows: tuple[MethodScores, ...]
    """The scores of each method."""
    trusted: str
    """The method with the greatest gain among those that beat noise; empty: none does, or there are too few images."""
    tied: tuple[str, ...]
    """Other methods that beat noise and may be as good: the interval of the difference does not exclude 0.01."""
    verdict: str
    """The trusted and the tied methods, or the reason why there are none, in a sentence."""
    images: int
    per_image: tuple[ImageScores, ...]
    """The scores of each image."""


def score_methods(
    model: VisionTransformer, batches: Iterable[JudgedBatch], question: Question, *, total: int, emit: Emit = ignore
) -> ScoreTable:
    """Score the maps of several methods, and noise, and say which method to trust.

    Everything is computed in float32. Intervals have a confidence of 95 %, by a bootstrap over images.

    Args:
        model: the model, in evaluation mode.
        batches: the images, in batches of any size; the scores do not depend on the size.
        question: the methods, and exactly one class.
        total: the number of images, for the progress.
        emit: receives the progress.

    Raises:
        UsageError, ModelError: the question does not suit the model, or does not have exactly one class.
        DataError: there are no images.
    """
    check_judgeable(model, question)
    question = replace(question, methods=(*(name for name in question.methods if name != NOISE), NOISE)).checked(model)
    task, found = "scoring attention maps", list[ImageScores]()
    emit(TaskProgress(task=task, done=0, total=total))
    for batch in batches:
        for image in _scored_batch(model, batch, question, first=len(found)):
            found.append(image)
            emit(TaskProgress(task=task, done=len(found), total=total))
    if not found:
        raise DataError("there are no images to judge the maps by")
    return summarise(found)


def check_judgeable(model: VisionTransformer, question: Question) -> None:
    """Refuse maps that cannot be scored or checked with one class.

    Raises:
        UsageError: the question asks for the attention of a patch, or for several classes.
        ModelError: the model has no classes, or only one patch.
    """
    if question.query is not None:
        raise UsageError("--query cannot be combined with --score or --check", hint="leave --query out")
    if len(question.choices) != 1:
        raise UsageError(f"maps are judged by one class at a time, not {len(question.choices)}", hint="--class pred")
    if not model.config.num_classes:
        raise ModelError("the model has no classifier, and maps are judged by the class that it predicts")
    if model.config.grid == (1, 1):
        raise ModelError("the model sees an image as a single patch, so there are no patches to compare")


def summarise(images: Sequence[ImageScores]) -> ScoreTable:
    """Compute means, intervals and the verdict from one image or more, each with the same methods, noise last."""
    *methods, _ = images[0].scores
    names = list(images[0].scores[NOISE])
    values = np.array([[list(each.values()) for each in image.scores.values()] for image in images])  # (N, M, S)
    signs = np.array([1 if HIGHER_IS_BETTER.get(name, True) else -1 for name in names])
    gains = signs * (values - values[:, -1:])
    per_score = iter(bootstrap(np.stack([values, gains], axis=3).reshape(len(images), -1)))
    overall = gains[:, :, [name in HIGHER_IS_BETTER for name in names]].mean(axis=2)  # (N, M)
    level = 1 - (1 - _LEVEL) / max(len(methods), 1)  # Bonferroni: of many methods, one could beat noise by luck
    *rows, noise = [
        MethodScores(
            method=method,
            scores={name: _score(name, next(per_score), next(per_score)) for name in names},
            gain=gain,
            beats_random=gain.low > 0 and len(images) >= ENOUGH,
        )
        for method, gain in zip([*methods, NOISE], bootstrap(overall, level=level), strict=True)
    ]
    rows.sort(key=lambda row: row.gain.mean, reverse=True)
    better = [row for row in rows if row.beats_random]
    columns = [methods.index(row.method) for row in better]
    behind = bootstrap(overall[:, columns[:1]] - overall[:, columns])  # the first gap is 0: best minus best
    tied = tuple(row.method for row, gap in zip(better[1:], behind[1:], strict=True) if gap.low <= SAME)
    return ScoreTable(
        rows=(*rows, noise),
        trusted=better[0].method if better else "",
        tied=tied,
        verdict=_verdict(better[0] if better else None, tied, len(images)),
        images=len(images),
        per_image=tuple(images),
    )


def _scored_batch(
    model: VisionTransformer, batch: JudgedBatch, question: Question, *, first: int
) -> Iterator[ImageScores]:
    """Score the images of a batch one by one; ``first`` is the number of its first image."""
    methods = question.methods
    explainer = Explainer(model, batch.images, question, seeds=range(first, first + len(batch.images)))
    found = [explainer.map(method) for method in methods]
    maps = torch.stack([weights.float() for weights, _ in found], dim=1).cpu()  # (B, R, h, w)
    others = {"sink_share": torch.stack([share for _, share in found], dim=1)}  # name -> (B, R)
    if batch.masks is not None:
        masks = batch.masks.cpu()
        others["points_at"] = torch.stack([points_at(weights, masks) for weights in maps.unbind(1)], dim=1)
        others["energy_inside"] = torch.stack([energy_inside(weights, masks) for weights in maps.unbind(1)], dim=1)
    targets: list[int] = explainer.targets[:, 0].tolist()
    expected = targets if batch.labels is None else batch.labels.tolist()
    del explainer  # frees the attention of the batch

    def classify(images: Tensor) -> Tensor:
        with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
            logits: Tensor = model(images)
        return logits

    for index, image in enumerate(batch.images):
        scores: dict[str, Tensor] = {
            **score_maps(
                classify, image, maps[index], target=targets[index], expected=expected[index], seed=first + index
            ),
            **{name: values[index] for name, values in others.items()},
        }
        columns = {name: values.tolist() for name, values in scores.items()}
        yield ImageScores(
            image=first + index,
            target=targets[index],
            scores={
                method: {name: column[row] for name, column in columns.items()} for row, method in enumerate(methods)
            },
        )


def _score(name: str, value: Interval, gain: Interval) -> ScoreSummary:
    return ScoreSummary(value=value, gain=None if name == "sink_share" else gain)


def _verdict(best: MethodScores | None, tied: Sequence[str], images: int) -> str:
    count = f"{images:,} image" + ("s" if images > 1 else "")
    if images < ENOUGH:
        return f"{count}: too few to tell a method from noise; at least {ENOUGH} are needed"
    if best is None:
        return f"no method can be told from noise on these {count}: trust none of them for this model"
    gain = best.gain
    sentence = (
        f"trust {best.method}: its scores are {gain.mean:.3f} better than those of noise ({gain.low:.3f} to "
        f"{gain.high:.3f}), on average over {len(HIGHER_IS_BETTER)} scores of {count}"
    )
    if tied:
        sentence += f"; {', '.join(tied)} may be as good"
    few = f"; other images may favour another method: score {ADVISED} or more (--limit {ADVISED}) before you decide"
    return sentence + few * (images < ADVISED)
