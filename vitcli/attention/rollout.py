"""Rollout: attention and residuals followed from the output to the input.

The row is carried from the last layer to the first, so that a layer costs N^2 and not N^3.
"""

from collections.abc import Iterable

from torch import Tensor

from vitcli.attention.evidence import Evidence, Options
from vitcli.attention.fusion import fuse_heads


def attention_rollout(evidence: Evidence, options: Options) -> Tensor:
    """Return p prod_l R_l with R_l = A_l + I, rows divided by their sum: (B, N), rows sum to 1.

    Source: Abnar & Zuidema 2020, "Quantifying attention flow in transformers".
    """
    fused = (fuse_heads(layer, options.fusion) for layer in reversed(evidence.probabilities))
    if options.discard:
        fused = (without_weakest(layer, options.discard) for layer in fused)
    return rolled_out(fused, evidence.pooling_row)


def gradient_rollout(evidence: Evidence, _options: Options) -> Tensor:
    """The same with (G_l * A_l)+ in the place of A_l: what speaks for a class; (B, N), rows sum to 1."""
    return rolled_out(reversed(evidence.relevances), evidence.pooling_row)


def rolled_out(layers: Iterable[Tensor], row: Tensor) -> Tensor:
    """Carry a row, (N,) -> (B, N), through layers, the last one first, each with I added and rows divided by their sum.

    Layers are (B, N, N), one at a time.
    """
    for layer in layers:
        weights = row / (layer.sum(dim=-1) + 1)  # the identity adds 1 to each row's sum
        row = weights + (weights[:, None] @ layer)[:, 0]
    return row


def without_weakest(attention: Tensor, share: float) -> Tensor:
    """Set a share of each image's entries to 0, the smallest ones; (B, N, N)."""
    flat = attention.flatten(1)
    weakest = flat.topk(round(share * flat.shape[1]), dim=1, largest=False).indices
    return flat.scatter(1, weakest, 0.0).view_as(attention)
