"""The input of attribution methods: tensors recorded while a batch goes through a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

HeadFusion = Literal["mean", "max", "min"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """The tensors recorded for a batch; ``needs`` in a method's registry entry says which of them it reads.

    y is the score of the target class. Sequences over layers start with the lowest layer.
    """

    seeds: Sequence[int]
    """One random seed per image, for methods that draw random numbers."""
    grid: tuple[int, int]
    num_prefix_tokens: int
    pooling_row: Tensor
    """p: the weight of each token in the pooled vector, (N,)."""
    probabilities: Sequence[Tensor] = ()
    """The attention probabilities A_l, one tensor per layer, (B, H, N, N)."""
    relevances: Sequence[Tensor] = ()
    """E_l = (G_l * A_l)+ with G_l = dy / dA_l: the attention that supports the class, fused over heads; (B, N, N)."""
    layer_gradients: Sequence[Tensor] = ()
    """(ds_l / dA_l)+, fused over heads, (B, N, N); s_l is the score that the head gives to the output of layer l."""
    tokens: Tensor | None = None
    """The tokens that enter the attention of the last layer used, (B, N, D)."""
    token_gradients: Tensor | None = None
    """dy / d ``tokens``, (B, N, D)."""
    pixels: Tensor | None = None
    """The model's input minus the baseline, (B, C, H, W)."""
    pixel_gradients: Tensor | None = None
    """The mean of dy / dx on the line from the baseline to the input, (B, C, H, W)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """The options of the attribution methods."""

    fusion: HeadFusion = "mean"
    """The operation that fuses all heads into one."""
    discard: float = 0.0
    """rollout: the share of each image's attention entries that is set to 0, the weakest first, 0..1."""
    mass: float = 1.0
    """raw: keep the strongest patches that together hold this share of the mass, 0..1; set the others to 0."""
