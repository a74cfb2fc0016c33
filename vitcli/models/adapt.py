"""Weights of one model for another: other image sizes, channels and classes.

Shapes: D width, C channels, N tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.errors import ModelError
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Size, format_size

_HEADS = ("head.", "distillation_head.")
_ESSENTIAL = ("blocks.", "input_norm.", "norm.")
"""Without these the features would be others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapted:
    """Weights that fit, and where each came from."""

    weights: dict[str, Tensor]
    """All that were taken over; what is not here keeps its fresh values."""
    loaded: tuple[str, ...]
    """Taken as they are."""
    changed: tuple[tuple[str, str], ...]
    """Names, and what was done to them."""
    new: tuple[str, ...]
    """Newly initialised."""
    left_over: tuple[str, ...]
    """Not needed."""


def adapt_weights(
    weights: Mapping[str, Tensor],
    source: ModelConfig,
    target: ModelConfig,
    *,
    fresh: Mapping[str, Tensor],
    classes: tuple[Sequence[str], Sequence[str]],
) -> Adapted:
    """Make weights fit a model of the same width.

    Positions are resized to the new grid, patch kernels to the new number of channels. The head is kept where both
    know the same classes, in the new order; otherwise the new model's own is.

    Args:
        weights: by our names.
        source: the model that they come from.
        target: the model that they are for.
        fresh: the new model's own weights.
        classes: names of the source's classes and of the target's.

    Raises:
        ModelError: a weight has another shape, or nothing fits at all.
    """
    result: dict[str, Tensor] = {}
    changed: list[tuple[str, str]] = []
    wrong: list[str] = []
    order = _order_of_classes(*classes) if _same_head(weights, fresh) else None
    for key, own in fresh.items():
        value = weights.get(key)
        if value is None or (key.startswith(_HEADS) and order is None):
            continue
        done = ""
        if key == "positions" and source.grid != target.grid:
            value = resize_positions(value, source.grid, target.grid)
            done = f"{format_size(source.grid)} to {format_size(target.grid)} patches"
        elif key == "patch_embedding.projection.weight" and source.in_channels != target.in_channels:
            value = change_channels(value, target.in_channels)
            done = f"{source.in_channels} to {target.in_channels} channels"
        elif order is not None and _is_last_of_head(key, fresh) and order != sorted(order):
            value = value[order]
            done = "classes in their new order"
        if value.shape != own.shape:
            wrong.append(f"{key} has {tuple(value.shape)}, not {tuple(own.shape)}")
        result[key] = value
        if done:
            changed.append((key, done))
    wrong += [f"{key} has no place" for key in weights if key.startswith(_ESSENTIAL) and key not in result]
    if wrong or not any(key.startswith("blocks.") for key in result):
        raise ModelError(
            f"the weights do not fit {target.name}: {'; '.join(wrong[:3]) or 'not one has its name'}",
            hint="leave out --model to take the architecture from the weights",
        )
    names = {name for name, _ in changed}
    return Adapted(
        weights=result,
        loaded=tuple(key for key in result if key not in names),
        changed=tuple(changed),
        new=tuple(key for key in fresh if key not in result),
        left_over=tuple(key for key in weights if key not in result),
    )


def resize_positions(positions: Tensor, old: Size, new: Size) -> Tensor:
    """Bicubic, antialiased resizing of a position embedding; the rows before the patches stay.

    Args:
        positions: (1, k + P, D), the patches last.
        old: rows and columns of the P patches.
        new: those wanted.

    Returns:
        (1, k + new P, D), of the same type.
    """
    split = positions.shape[1] - old[0] * old[1]
    prefix, patches = positions[:, :split], positions[:, split:]
    image = patches.float().reshape(1, *old, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, new, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([prefix, image.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)], dim=1)


def change_channels(kernels: Tensor, channels: int) -> Tensor:
    """Patch kernels (D, C, h, w) for another number of channels, as timm does it.

    For one channel they are summed; for more they are repeated, and scaled by C / channels.
    """
    old = kernels.shape[1]
    if channels == 1:
        return kernels.sum(dim=1, keepdim=True)
    return kernels.repeat(1, -(-channels // old), 1, 1)[:, :channels] * (old / channels)


def _order_of_classes(source: Sequence[str], target: Sequence[str]) -> list[int] | None:
    """Find each of the target's classes among the source's; None where they are not the same classes."""
    if not target or sorted(source) != sorted(target):
        return None
    index = {name: place for place, name in enumerate(source)}
    return [index[name] for name in target]


def _same_head(weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> bool:
    """Tell whether two models have the same layers in their heads; their order of classes may differ."""
    theirs, ours = (
        {key: value.shape for key, value in each.items() if key.startswith(_HEADS)} for each in (weights, fresh)
    )
    return theirs == ours


def _is_last_of_head(key: str, fresh: Mapping[str, Tensor]) -> bool:
    """The layer of a head whose rows are classes."""
    head, _, rest = key.partition(".")
    if not key.startswith(_HEADS):
        return False
    layers = {other.split(".")[1] for other in fresh if other.startswith(f"{head}.")}
    return rest.split(".")[0] == max(layers, key=int)
