"""The attribution methods: each turns the recorded ``Evidence`` of a batch into a weight per token.

B: images, N: tokens, prefix tokens first, D: width. ``evidence.Evidence`` defines A, G, E, y and p.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.attention.evidence import Evidence, Options
from vitcli.attention.fusion import fuse_heads

# Attention alone: the same map for every class


def raw_attention(evidence: Evidence, options: Options) -> Tensor:
    """Return p A of the last layer used: the attention of the pooled tokens to every token, (B, N).

    Source: Caron et al. 2021, "Emerging properties in self-supervised vision transformers" (DINO).
    """
    row = evidence.pooling_row @ fuse_heads(evidence.probabilities[-1], options.fusion)
    return row if options.mass == 1 else strongest(row, options.mass, evidence.num_prefix_tokens)


def strongest(row: Tensor, mass: float, num_prefix_tokens: int) -> Tensor:
    """Keep the strongest patches that together hold a share of all patches' mass, and set the others to 0, (B, N)."""
    patches = row[:, num_prefix_tokens:]
    values, order = patches.sort(dim=1, descending=True)
    before = values.cumsum(dim=1) - values  # the mass of the stronger patches
    kept = torch.zeros_like(patches).scatter(1, order, values * (before < mass * values.sum(dim=1, keepdim=True)))
    return torch.cat([row[:, :num_prefix_tokens], kept], dim=1)


def classic_attention(evidence: Evidence, options: Options) -> Tensor:
    """Return the mean over layers of p A, (B, N), which many tutorials show."""
    rows = [evidence.pooling_row @ fuse_heads(layer, options.fusion) for layer in evidence.probabilities]
    return torch.stack(rows).mean(dim=0)


def attention_rollout(evidence: Evidence, options: Options) -> Tensor:
    """Return p prod_l R_l, where R_l is A_l + I with rows divided by their sum; (B, N), rows sum to 1.

    Source: Abnar & Zuidema 2020, "Quantifying attention flow in transformers".
    """
    fused = (fuse_heads(layer, options.fusion) for layer in reversed(evidence.probabilities))
    if options.discard:
        fused = (without_weakest(layer, options.discard) for layer in fused)
    return rolled_out(fused, evidence.pooling_row)


# Attention that supports a class


def relevance(evidence: Evidence, _options: Options) -> Tensor:
    """Return p prod_l (I + E_l) - p with E_l = (G_l * A_l)+, fused over heads, (B, N).

    p itself is subtracted: with mean pooling it is the same for every patch and says nothing about them.
    Source: Chefer, Gur & Wolf 2021, "Generic attention-model explainability", the rule for self-attention.
    """
    row = start = evidence.pooling_row.expand(evidence.relevances[0].shape[0], -1)
    for layer in reversed(evidence.relevances):
        row = row + (row[:, None] @ layer)[:, 0]
    return row - start


def gradient_rollout(evidence: Evidence, _options: Options) -> Tensor:
    """Return the rollout of (G_l * A_l)+, the attention that supports a class, not of A_l; (B, N), rows sum to 1."""
    return rolled_out(reversed(evidence.relevances), evidence.pooling_row)


def rolled_out(layers: Iterable[Tensor], row: Tensor) -> Tensor:
    """Multiply a row by the matrices of all layers, last layer first, (N,) -> (B, N).

    I is added to each layer's matrix, (B, N, N), and its rows are divided by their sum. Multiplying a row costs N^2 per
    layer; multiplying the matrices would cost N^3.
    """
    for layer in layers:
        weights = row / (layer.sum(dim=-1) + 1)  # the identity adds 1 to each row's sum
        row = weights + (weights[:, None] @ layer)[:, 0]
    return row


def without_weakest(attention: Tensor, share: float) -> Tensor:
    """Set the smallest entries of each image to 0, a given share of all entries; (B, N, N)."""
    flat = attention.flatten(1)
    weakest = flat.topk(round(share * flat.shape[1]), dim=1, largest=False).indices
    return flat.scatter(1, weakest, 0.0).view_as(attention)


def legrad(evidence: Evidence, _options: Options) -> Tensor:
    """Return the sum over layers of the mean over heads and query rows of (ds_l / dA_l)+, (B, N).

    Source: Bousselham et al. 2024, "LeGrad: an explainability method for vision transformers".
    """
    return torch.stack([layer.mean(dim=1) for layer in evidence.layer_gradients]).sum(dim=0)


# Tokens and pixels


def grad_cam(evidence: Evidence, _options: Options) -> Tensor:
    """Return (sum_c mean_i(g_ic) F_ic)+, the mean over patches, (B, N).

    F are the tokens that enter the attention of the last layer used. After the last layer it would be too late: with a
    class token, patch tokens have no influence there.

    Source: Selvaraju et al. 2017, "Grad-CAM".
    """
    assert evidence.tokens is not None
    assert evidence.token_gradients is not None
    weights = evidence.token_gradients[:, evidence.num_prefix_tokens :].mean(dim=1)  # (B, D)
    return (evidence.tokens @ weights[:, :, None])[..., 0].relu()


def hires_cam(evidence: Evidence, _options: Options) -> Tensor:
    """Return (sum_c g_ic F_ic)+, each token with its own gradient, (B, N).

    Source: Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM".
    """
    assert evidence.tokens is not None
    assert evidence.token_gradients is not None
    return (evidence.tokens * evidence.token_gradients).sum(dim=2).relu()


def integrated_gradients(evidence: Evidence, _options: Options) -> Tensor:
    """Return (x - x0) times the mean gradient from x0 to x, summed per patch: signed, (B, N), 0 on prefix tokens.

    The more steps the mean has, the closer the sum is to y(x) - y(x0).
    Source: Sundararajan, Taly & Yan 2017, "Axiomatic attribution for deep networks".
    """
    assert evidence.pixels is not None
    assert evidence.pixel_gradients is not None
    shares = (evidence.pixels * evidence.pixel_gradients).sum(dim=1)  # (B, H, W)
    (rows, columns), (height, width) = evidence.grid, shares.shape[1:]
    patches = shares.view(-1, rows, height // rows, columns, width // columns).sum(dim=(2, 4)).flatten(1)
    return F.pad(patches, (evidence.num_prefix_tokens, 0))


# The baseline that every other method must beat


def random_map(evidence: Evidence, _options: Options) -> Tensor:
    """Draw uniform random weights, (B, N); an image's seed always gives the same weights."""
    generators = [torch.Generator().manual_seed(seed) for seed in evidence.seeds]
    tokens = len(evidence.pooling_row)
    rows = torch.stack([torch.rand(tokens, generator=generator) for generator in generators])
    return rows.to(evidence.pooling_row)
