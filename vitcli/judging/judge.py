"""The pass of one model, or of several whose probabilities are averaged, over the images of a split."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, Note, TaskProgress
from vitcli.data.loader import Batches
from vitcli.data.raw import Labels
from vitcli.engine.evaluate import in_micro_batches
from vitcli.engine.micro_batches import MicroBatches
from vitcli.judging.answers import AnswerCollector, Answers
from vitcli.trained.judged_images import JudgedImages, unknown_classes
from vitcli.trained.loading import LoadedModel

Views = Literal["none", "flip", "five"]
"""Views of each image whose probabilities are averaged: the image alone; with its mirror image; with its corners."""
VIEWS: dict[Views, int] = {"none": 1, "flip": 2, "five": 5}
"""The number of views of each kind."""
_CORNER = 7 / 8
"""The side of a corner view as a share of the image's side."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """The answers to the images of a split."""

    answers: Answers
    positions: Labels
    """The positions of these images among those of the split, (N,)."""
    left_out: int
    """The number of images of classes that the model does not know."""
    logits: Tensor
    """The logits, float32, (N, classes), if they were to be kept; else empty."""


@torch.inference_mode()
def judge(
    models: Sequence[LoadedModel],
    chosen: JudgedImages,
    *,
    batch_size: int,
    views: Views = "none",
    shared: bool = False,
    keeps_logits: bool = False,
    emit: Emit,
) -> Judged:
    """Compute the models' mean probabilities for every image that can be read, in the order of the data set.

    Args:
        models: the models; the classes are in the order of the first one's.
        chosen: the images.
        batch_size: images per batch.
        views: views of each image.
        shared: judge only images of classes that both the model and the data have, and choose among these classes.
        keeps_logits: keep the logits.
        emit: receives the progress.

    Raises:
        DataError: the model does not know some of the data set's classes, or, if only shared ones count, any of them.
    """
    data_classes = chosen.dataset.facts.classes
    classes = _classes(models[0].checkpoint.classes, data_classes, shared=shared, emit=emit)
    index = {name: at for at, name in enumerate(classes)}
    places = torch.tensor([index.get(name, -1) for name in data_classes])
    prepared = [chosen.prepared(model.checkpoint.preprocessing.geometry, emit) for model in models]
    readable = torch.from_numpy(prepared[0].readable())
    labels = places[prepared[0].labels]
    members = readable[labels[readable] >= 0]
    if not len(members):
        raise DataError(f"no image of {_named(chosen)} is of a class of the model")
    batches = [
        Batches(
            images.images,
            labels,
            members=members,
            batch_size=batch_size,
            transform=model.to_input,
            device=model.device,
        )
        for model, images in zip(models, prepared, strict=True)
    ]
    orders = [_order(model.checkpoint.classes, classes) for model in models]
    several = [MicroBatches(1, emit=emit) for _ in models]
    collector, task, done = AnswerCollector(classes), f"evaluating on {_named(chosen)}", 0
    parts, kept = len(models) * VIEWS[views], [torch.empty(0)]
    emit(TaskProgress(task=task, done=0, total=len(members)))
    for inputs in zip(*batches, strict=True):  # one batch of each model
        total: Tensor | None = None
        truth = inputs[0][1].cpu()
        for model, (images, _), order, micro_batches in zip(models, inputs, orders, several, strict=True):
            for view in seen_as(images, views):
                logits = model.checked(
                    in_micro_batches(model.for_inference, view, model.precision, micro_batches)
                ).cpu()
                logits = logits if order is None else logits[:, order]
                if parts > 1:
                    logits = logits.double().log_softmax(dim=1) - math.log(parts)
                total = logits if total is None else torch.logaddexp(total, logits)
        assert total is not None
        collector.add(total, truth)
        if keeps_logits:
            kept.append(total.float())
        done += len(truth)
        emit(TaskProgress(task=task, done=done, total=len(members)))
    return Judged(
        answers=collector.answers(),
        positions=members.numpy(),
        left_out=len(readable) - len(members),
        logits=torch.cat(kept),
    )


def _named(chosen: JudgedImages) -> str:
    return f"{chosen.dataset.facts.name} ({'all images' if chosen.are_all else chosen.part})"


def seen_as(images: Tensor, views: Views) -> list[Tensor]:
    """Return the views of model input, (B, C, H, W) each: corners are cut out and resized to the whole size."""
    if views == "flip":
        return [images, images.flip(-1)]
    if views == "none":
        return [images]
    height, width = images.shape[-2:]
    down, across = round(height * _CORNER), round(width * _CORNER)
    cut = [
        images[..., top : top + down, left : left + across]
        for top in (0, height - down)
        for left in (0, width - across)
    ]
    return [images, *(F.interpolate(each, (height, width), mode="bicubic") for each in cut)]


def _classes(known: tuple[str, ...], found: tuple[str, ...], *, shared: bool, emit: Emit) -> tuple[str, ...]:
    """Return the classes to choose among, and tell what is left out if only shared ones count."""
    of_model, of_data = set(known), set(found)
    unknown = [name for name in found if name not in of_model]
    if not shared:
        if unknown:
            others = "" if len(unknown) == len(found) else "--classes shared judges the others; "
            raise unknown_classes(unknown, found, known, hint=others)
        return known
    both = tuple(name for name in known if name in of_data)
    if len(both) < 2:
        raise DataError(
            f"the model and the data share {len(both) or 'no'} class, and two are needed; the data have {found[0]!r}",
            hint=f"the model knows {', '.join(known[:10])}" + (" ..." if len(known) > 10 else ""),
        )
    emit(
        Note(
            text=f"classes: the {len(both):,} that the model and the data share; left out: {len(unknown):,} of the data, "
            f"{len(known) - len(both):,} of the model"
        )
    )
    return both


def _order(known: tuple[str, ...], classes: tuple[str, ...]) -> Tensor | None:
    """Return the indices of ``classes`` among the known ones; None: they are the same."""
    if known == classes:
        return None
    index = {name: at for at, name in enumerate(known)}
    return torch.tensor([index[name] for name in classes])
