"""Adaptation of weights to another model: other image sizes, channels and classes.

Shapes: D width, C channels, N tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.errors import ModelError, counted
from vitcli.core.model_config import ModelConfig
from vitcli.core.preprocessing import Size, format_size

_HEADS = ("head.", "distillation_head.")
_ESSENTIAL = ("blocks.", "input_norm.", "norm.")
"""Prefixes of the weights without which the features would change."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Adapted:
    """Weights that fit a model, and where each came from."""

    weights: dict[str, Tensor]
    """All weights to load; the other weights of the model keep their initial values."""
    loaded: tuple[str, ...]
    """Names of weights that were taken over without a change."""
    changed: tuple[tuple[str, str], ...]
    """Names of weights that were changed, and how."""
    new: tuple[str, ...]
    """Names of weights that are newly initialised."""
    left_over: tuple[str, ...]
    """Names of weights of the source that are not needed."""


def adapt_weights(
    weights: Mapping[str, Tensor],
    source: ModelConfig,
    target: ModelConfig,
    *,
    fresh: Mapping[str, Tensor],
    classes: tuple[Sequence[str], Sequence[str]],
) -> Adapted:
    """Make weights fit a model of the same width.

    Positions are resized to the new grid, patch kernels to the new number of channels. The head is kept if both models
    have the same classes, in the order of the new model; otherwise the new model's own head is used.

    Args:
        weights: the weights, by the names that vit uses.
        source: the configuration of the model that they come from.
        target: the configuration of the model that they are adapted to.
        fresh: the initial weights of the new model.
        classes: the class names of the source, and those of the target.

    Raises:
        ModelError: a weight has the wrong shape, or nothing fits at all.
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
            done = f"{source.in_channels} to {counted(target.in_channels, 'channel')}"
        elif order is not None and _is_last_of_head(key, fresh) and order != sorted(order):
            value = value[order]
            done = "classes in their new order"
        if value.shape != own.shape:
            wrong.append(f"{key} has {tuple(value.shape)}, not {tuple(own.shape)}")
        result[key] = value
        if done:
            changed.append((key, done))
    wrong += [f"{key} has no place in it" for key in weights if key.startswith(_ESSENTIAL) and key not in result]
    if wrong or not any(key.startswith("blocks.") for key in result):
        raise ModelError(
            f"the weights do not fit {target.name}: {'; '.join(wrong[:3]) or 'no name matches'}",
            hint="leave out --model and changes of the model (--set model.…) to take the architecture from the weights",
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
    """Resize a position embedding, bicubic and antialiased; the rows before the patches do not change.

    Args:
        positions: the position embedding, (1, k + P, D), with the patches last.
        old: rows and columns of the P patches.
        new: rows and columns of the new patches.

    Returns:
        The new position embedding, (1, k + new P, D), of the same type.
    """
    split = positions.shape[1] - old[0] * old[1]
    prefix, patches = positions[:, :split], positions[:, split:]
    image = patches.float().reshape(1, *old, -1).permute(0, 3, 1, 2)
    image = F.interpolate(image, new, mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([prefix, image.permute(0, 2, 3, 1).flatten(1, 2).to(positions.dtype)], dim=1)


def change_channels(kernels: Tensor, channels: int) -> Tensor:
    """Convert patch kernels (D, C, h, w) to another number of channels, as timm does it.

    For one channel, the kernels are summed; for more, they are repeated and scaled by C / channels.
    """
    old = kernels.shape[1]
    if channels == 1:
        return kernels.sum(dim=1, keepdim=True)
    return kernels.repeat(1, -(-channels // old), 1, 1)[:, :channels] * (old / channels)


def _order_of_classes(source: Sequence[str], target: Sequence[str]) -> list[int] | None:
    """Find the index of each target class among the source's; None: the classes are not the same."""
    if not target or sorted(source) != sorted(target):
        return None
    index = {name: place for place, name in enumerate(source)}
    return [index[name] for name in target]


def _same_head(weights: Mapping[str, Tensor], fresh: Mapping[str, Tensor]) -> bool:
    """Tell whether the heads of two models have the same layers; the order of their classes may differ."""
    theirs, ours = (
        {key: value.shape for key, value in each.items() if key.startswith(_HEADS)} for each in (weights, fresh)
    )
    return theirs == ours


def _is_last_of_head(key: str, fresh: Mapping[str, Tensor]) -> bool:
    """Tell whether a weight belongs to the last layer of a head, whose rows are the classes."""
    head, _, rest = key.partition(".")
    if not key.startswith(_HEADS):
        return False
    layers = {other.split(".")[1] for other in fresh if other.startswith(f"{head}.")}
    return rest.split(".")[0] == max(layers, key=int)
