"""Attention probabilities and tokens of an ordinary forward pass.

Fused kernels never store the probabilities, so hooks cannot see them. Inside ``capture_attention``, the chosen blocks
compute attention explicitly by the same formula, and keep the probabilities; the graph is kept too, for gradients.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from vitcli.core.errors import ModelError, counted
from vitcli.models.layers import Attend, Attention
from vitcli.models.vit import VisionTransformer


@contextmanager
def capture_attention(model: VisionTransformer, layers: Iterable[int] | None = None) -> Iterator[dict[int, Tensor]]:
    """Yield a dictionary that each forward pass fills: layer -> attention probabilities (B, H, N, N); rows sum to 1.

    Args:
        model: the model, which is restored at the end of the block.
        layers: the blocks to capture, counted from 0, negative ones from the end; None: all.

    Raises:
        ModelError: the model has no such block, or a block has no attention.
    """
    depth = len(model.blocks)
    chosen = range(depth) if layers is None else [checked_index(layer, depth, "layer") for layer in layers]
    probabilities: dict[int, Tensor] = {}
    attentions = [(layer, _attention(model, layer)) for layer in chosen]
    before = model.num_read, [attention.attend for _, attention in attentions]
    try:
        model.num_read = None
        for layer, attention in attentions:
            attention.attend = _explicit_attention(layer, probabilities)
        yield probabilities
    finally:
        model.num_read, attends = before
        for (_, attention), attend in zip(attentions, attends, strict=True):
            attention.attend = attend


@contextmanager
def capture_tokens(model: VisionTransformer, layer: int) -> Iterator[dict[int, Tensor]]:
    """Yield a dictionary that each forward pass fills: layer -> the tokens that enter its attention, (B, N, D).

    If the norms are before the branches, these are normalised tokens. Their gradients can be computed too.

    Raises:
        ModelError: the model has no such block.
    """
    layer = checked_index(layer, len(model.blocks), "layer")
    seen: dict[int, Tensor] = {}

    def keep(_module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        seen[layer] = _with_gradient(given[0])
        return (seen[layer], *given[1:])

    with _hooked(_attention(model, layer).register_forward_pre_hook(keep)):
        yield seen


def checked_index(index: int, count: int, kind: str) -> int:
    """Convert an index to one from 0; a negative index counts from the end.

    Raises:
        ModelError: the index is out of range.
    """
    if not -count <= index < count:
        raise ModelError(
            f"{kind} {index} does not exist",
            hint=f"this model has {counted(count, kind)}, counted from 0",
        )
    return index % count


def _attention(model: VisionTransformer, layer: int) -> Attention:
    attention = getattr(model.blocks[layer], "attention", None)
    if not isinstance(attention, Attention):
        raise ModelError(f"layer {layer} has no attention to look at: it is a {type(model.blocks[layer]).__name__}")
    return attention


@contextmanager
def _hooked(handle: RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _with_gradient(tensor: Tensor) -> Tensor:
    """Return a view of the tensor, so that its gradients come only from its use here.

    If no weight requires gradients, the first captured tensor becomes the leaf at which they end.
    """
    if not torch.is_grad_enabled():
        return tensor
    return tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()


def _explicit_attention(layer: int, probabilities: dict[int, Tensor]) -> Attend:
    """Return an ``Attend`` that stores softmax(q k^T / sqrt(D/H)) under ``layer``."""

    def attend(queries: Tensor, keys: Tensor, values: Tensor, dropout: float) -> Tensor:
        scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)  # (B, H, N, N)
        probabilities[layer] = _with_gradient(scores.softmax(dim=-1))
        kept = F.dropout(probabilities[layer], dropout) if dropout else probabilities[layer]
        return kept @ values

    return attend
