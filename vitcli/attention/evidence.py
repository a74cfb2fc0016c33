"""The input of attribution methods: tensors that were seen on the way of a batch through a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

HeadFusion = Literal["mean", "max", "min"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """A batch, watched; each method's entry in the registry says what it ``needs``.

    y is the score of the class that is asked for; layers are in order, the first one first.
    """

    seeds: Sequence[int]
    """One per image, for what is drawn at random."""
    grid: tuple[int, int]
    num_prefix_tokens: int
    pooling_row: Tensor
    """p: the weight of each token in the pooled vector, (N,)."""
    probabilities: Sequence[Tensor] = ()
    """A_l, per layer (B, H, N, N)."""
    relevances: Sequence[Tensor] = ()
    """E_l = (G_l * A_l)+ with G_l = dy / dA_l: what of the attention speaks for the class, heads fused; (B, N, N)."""
    layer_gradients: Sequence[Tensor] = ()
    """(ds_l / dA_l)+, where s_l is the score that the head gives to the tokens that leave layer l; likewise."""
    tokens: Tensor | None = None
    """What enters the last layer's attention, (B, N, D)."""
    token_gradients: Tensor | None = None
    """dy / d tokens, (B, N, D)."""
    pixels: Tensor | None = None
    """What enters the model, less the baseline, (B, C, H, W)."""
    pixel_gradients: Tensor | None = None
    """The mean of dy / dx on the line from the baseline, (B, C, H, W)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The options of the methods."""

    fusion: HeadFusion = "mean"
    """How heads become one."""
    discard: float = 0.0
    """rollout: the share of each image's weakest attention that counts as none, 0..1."""
    mass: float = 1.0
    """raw: the strongest patches that together hold this share are kept, 0..1; the others become 0."""
