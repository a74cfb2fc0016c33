"""The Python function that explains one image."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vitcli.attention.evidence import Options
from vitcli.attention.registry import DEFAULT_METHOD, parse_methods
from vitcli.attention.targets import ClassChoice, TargetScore, parse_classes, probability_of
from vitcli.core.errors import DataError, UsageError
from vitcli.core.events import Event, Warned
from vitcli.data.decoding import upright
from vitcli.data.deep_images import extremes, is_deep, usual_range
from vitcli.data.preprocess import load_array, to_array
from vitcli.data.value_range import with_value_range
from vitcli.explaining.explainer import explain
from vitcli.explaining.maps import AttentionMap, maps_of
from vitcli.explaining.question import Question
from vitcli.figures.attention_style import Subject
from vitcli.models.capture import checked_index
from vitcli.models.vit import VisionTransformer
from vitcli.trained.loading import LoadedModel, load_model


def attention_map(
    model: str | os.PathLike[str] | LoadedModel | VisionTransformer,
    image: Path | str | Image.Image | Tensor,
    *,
    method: str = DEFAULT_METHOD,
    target: str | int = "pred",
    score: TargetScore = "logit",
    layers: Sequence[int] = (),
    heads: Sequence[int] = (),
    options: Options = Options(),  # noqa: B008 - it is frozen
    steps: int = 16,
) -> AttentionMap:
    """Explain one image: compute its attention map.

    Args:
        model: a run, checkpoint or name (empty: the newest finished run), a model from ``load_model``, or a module,
            which takes only tensors, and gives maps without pictures.
        image: a file, a picture, or the normalised model input, (C, H, W).
        method: a method of ``attention.registry``.
        target: the class to explain: ``pred``, a name, or an index.
        score: the score to explain: the logit, or the log-odds (``contrast``).
        layers: the layers to use, from 0, negative numbers from the end; empty: the default layers of the method.
        heads: the heads to use, from 0, negative numbers from the end; empty: all.
        options: options of the method.
        steps: the number of steps of integrated gradients.

    Raises:
        UsageError, DataError, ModelError, RunError: something does not exist, or settings contradict each other.
    """
    loaded = load_model(os.fspath(model), needs_head=False) if isinstance(model, str | os.PathLike) else model
    module = loaded if isinstance(loaded, VisionTransformer) else loaded.model
    classes = tuple(map(str, range(module.config.num_classes)))
    if isinstance(loaded, LoadedModel):
        classes = loaded.checkpoint.classes
    question = Question(
        methods=parse_methods([method]),
        choices=_choices(target, classes),
        score=score,
        layers=tuple(layers),
        heads=tuple(heads),
        options=options,
        steps=steps,
    )
    if len(question.methods) * len(question.choices) != 1:
        raise UsageError(f"{method!r} and {target!r} are not one method and one class", hint="call it once for each")
    was_training = module.training
    try:
        seen = _as_input(loaded, image)[None]
        explanation = explain(module.eval(), seen, question)
    finally:
        module.train(was_training)
    (found,) = maps_of(explanation, 0, question, classes)
    if isinstance(loaded, VisionTransformer):
        return found
    logits = explanation.logits[0]
    name = Path(image).name if isinstance(image, str | Path) else ""
    subject = Subject(name=name, pixels=loaded.to_input.pixels(seen)[0].cpu().numpy())
    if classes:
        best = int(logits.argmax())
        subject = replace(subject, predicted=classes[best], probability=probability_of(logits, best))
    return replace(found, subject=subject)


def _choices(target: str | int, classes: Sequence[str]) -> tuple[ClassChoice, ...]:
    """Return the class that a number counts from 0, whatever classes are called; or the classes that a text names."""
    if not classes and target == "pred":
        return (ClassChoice(),)
    if isinstance(target, str) or not classes:
        return tuple(parse_classes([str(target)], classes))
    return (ClassChoice(index=checked_index(target, len(classes), "class")),)


def _as_input(loaded: LoadedModel | VisionTransformer, image: Path | str | Image.Image | Tensor) -> Tensor:
    """Convert an image to model input, (C, H, W), on the model's device."""
    module = loaded if isinstance(loaded, VisionTransformer) else loaded.model
    if isinstance(image, Tensor):
        wanted = module.config.in_channels, *module.config.image_size
        if image.ndim != 3:
            hint = "call it once for each image"
            raise UsageError(f"an image of shape {tuple(image.shape)} is not (C, H, W)", hint=hint)
        if image.shape != wanted or not image.is_floating_point():
            raise UsageError(
                f"a tensor of shape {tuple(image.shape)} and type {image.dtype} is not this model's input",
                hint=f"expected: normalised floats of shape {wanted}",
            )
        return image.to(module.positions.device)
    if isinstance(loaded, VisionTransformer):
        raise UsageError("a bare module takes tensors: its preprocessing is not known", hint="load_model()")
    geometry = loaded.checkpoint.preprocessing.geometry
    if isinstance(image, Image.Image):
        image = upright(image)
        found = extremes(image) if is_deep(image) and not geometry.value_range else None
        if found:
            geometry = replace(geometry, value_range=usual_range(*found[:2], whole=found[2]))
        try:
            pixels = to_array(image, geometry)
        except DataError as error:
            raise DataError(f"the image {error.message}", hint=error.hint) from None
    else:
        pixels = load_array(Path(image), with_value_range([geometry], [Path(image)], _warn)[geometry])
    return loaded.to_input(torch.from_numpy(pixels)[None].to(loaded.device))[0]


def _warn(event: Event) -> None:
    if isinstance(event, Warned):
        warnings.warn(event.text, stacklevel=6)
