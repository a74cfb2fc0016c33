"""Attention probabilities of an ordinary forward pass.

Fused kernels never form them, so hooks see nothing. Inside ``capture_attention`` the chosen blocks attend
explicitly instead, by the same formula, and keep what they compute; the graph is kept too, for gradients.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor
from torch.nn import functional as F

from vitcli.core.errors import UsageError
from vitcli.models.layers import Attend, Attention
from vitcli.models.vit import VisionTransformer


@contextmanager
def capture_attention(model: VisionTransformer, layers: Iterable[int] | None = None) -> Iterator[dict[int, Tensor]]:
    """Yield a dictionary that each forward pass fills: layer -> probabilities (B, H, N, N), rows summing to 1.

    Args:
        model: the model; it leaves the block as it was.
        layers: blocks to watch, counted from 0, negative ones from the end; None: all.

    Raises:
        UsageError: the model has no such block.
    """
    depth = len(model.blocks)
    chosen = range(depth) if layers is None else [_checked(layer, depth) for layer in layers]
    probabilities: dict[int, Tensor] = {}
    attentions: list[tuple[int, Attention]] = []
    for layer in chosen:
        attention = model.blocks[layer].attention
        assert isinstance(attention, Attention)
        attentions.append((layer, attention))
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


def _checked(layer: int, depth: int) -> int:
    if not -depth <= layer < depth:
        raise UsageError(f"layer {layer} does not exist", hint=f"this model has layers 0 to {depth - 1}")
    return layer % depth


def _explicit_attention(layer: int, probabilities: dict[int, Tensor]) -> Attend:
    """An ``Attend`` that stores softmax(q k^T / sqrt(D/H)) under ``layer``."""

    def attend(queries: Tensor, keys: Tensor, values: Tensor, dropout: float) -> Tensor:
        scores = queries @ keys.transpose(-2, -1) * queries.shape[-1] ** -0.5  # (B, H, N, N)
        probabilities[layer] = scores.softmax(dim=-1)
        return F.dropout(probabilities[layer], dropout) @ values

    return attend
