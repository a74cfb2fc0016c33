"""Attention maps over small pictures, as arrays."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitcli.explaining.explainer import explain, images_at_once
from vitcli.explaining.maps import maps_of
from vitcli.explaining.question import Question
from vitcli.figures.attention_overlay import overlay, panel
from vitcli.figures.attention_style import Style, scale_of
from vitcli.trained.loading import LoadedModel

_LEAST = 128
"""Pixels of the shorter side of a picture, at least."""


def draw_overlays(
    loaded: LoadedModel, pixels: Sequence[Tensor], method: str, *, classes: Sequence[str] = ()
) -> list[NDArray[np.uint8]]:
    """Draw the map of each image over it, (C, H, W).

    Args:
        loaded: the model.
        pixels: the images as they are prepared for the model, uint8, (C, h, w) each.
        method: the method.
        classes: the class of each image that a method explains; empty: the one that this model predicts.
    """
    question = Question(methods=(method,)).checked(loaded.model)
    at_once, style, drawn = images_at_once(loaded.model.config), Style(), list[NDArray[np.uint8]]()
    for start in range(0, len(pixels), at_once):
        some = torch.stack([*pixels[start : start + at_once]])
        targets = targets_called(loaded, classes[start : start + at_once]) if classes else None
        explanation = explain(loaded.model, loaded.to_input(some.to(loaded.device)), question, targets=targets)
        for row in range(len(some)):
            (found,) = maps_of(explanation, row, question, loaded.checkpoint.classes)
            scale = scale_of(found.picture.weights, style.norm, is_signed=found.picture.is_signed)
            seen = panel(some[row].numpy(), least=_LEAST)
            drawn.append(overlay(seen, found.picture, style, scale).transpose(2, 0, 1))
    return drawn


def targets_called(loaded: LoadedModel, classes: Sequence[str]) -> Tensor:
    """Return the target class of each image for ``explain``, (B, 1), from their names."""
    return torch.tensor([[loaded.checkpoint.classes.index(name)] for name in classes])
