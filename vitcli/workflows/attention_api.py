"""One image, explained from Python."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vitcli.attention.evidence import Options
from vitcli.attention.registry import DEFAULT_METHOD, parse_methods
from vitcli.attention.targets import ClassChoice, TargetScore, parse_classes
from vitcli.core.errors import UsageError
from vitcli.data.preprocess import load_array, to_array
from vitcli.explaining.explainer import explain
from vitcli.explaining.maps import AttentionMap, maps_of
from vitcli.explaining.question import Question
from vitcli.models.vit import VisionTransformer
from vitcli.trained.loading import LoadedModel, load_model


def attention_map(
    model: str | LoadedModel | VisionTransformer,
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
    """Explain one image.

    Args:
        model: a run, checkpoint or name (empty: the newest finished run), what ``load_model`` gave, or a module, which
            takes tensors alone.
        image: a file, a picture, or what the model sees: normalised, (C, H, W).
        method: a name of ``attention.registry``.
        target: the class: ``pred``, a name, or an index.
        score: explain the logit, or the log-odds (``contrast``).
        layers: from 0, negative ones from the end; none: those that the method is made for.
        heads: likewise; none: all.
        options: how the method is carried out.
        steps: of integrated gradients.

    Raises:
        UsageError, DataError, ModelError, RunError: something that is not there, or does not go together.
    """
    loaded = load_model(model) if isinstance(model, str) else model
    module = loaded if isinstance(loaded, VisionTransformer) else loaded.model
    classes = tuple(map(str, range(module.config.num_classes)))
    if isinstance(loaded, LoadedModel):
        classes = loaded.checkpoint.classes
    question = Question(
        methods=parse_methods([method]),
        choices=tuple(parse_classes([str(target)], classes)) if classes else (ClassChoice(),),
        score=score,
        layers=tuple(layers),
        heads=tuple(heads),
        options=options,
        steps=steps,
    )
    if len(question.methods) * len(question.choices) != 1:
        raise UsageError(f"one method and one class, not {method!r} and {target!r}", hint="call it for each")
    was_training = module.training
    try:
        explanation = explain(module.eval(), _as_input(loaded, image)[None], question)
    finally:
        module.train(was_training)
    (found,) = maps_of(explanation, 0, question, classes)
    return found


def _as_input(loaded: LoadedModel | VisionTransformer, image: Path | str | Image.Image | Tensor) -> Tensor:
    """Convert an image to what the model sees, (C, H, W), on its device."""
    if isinstance(image, Tensor) and image.ndim != 3:
        raise UsageError(f"one image is (C, H, W), and not {tuple(image.shape)}", hint="call it for each")
    if isinstance(loaded, VisionTransformer):
        if not isinstance(image, Tensor):
            raise UsageError("a bare module takes tensors: its preprocessing is not known", hint="load_model()")
        return image.to(loaded.positions.device)
    if isinstance(image, Tensor):
        return image.to(loaded.device)
    geometry = loaded.checkpoint.preprocessing.geometry
    pixels = to_array(image, geometry) if isinstance(image, Image.Image) else load_array(Path(image), geometry)
    return loaded.to_input(torch.from_numpy(pixels)[None].to(loaded.device))[0]
