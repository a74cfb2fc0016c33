"""Faithfulness scores: test whether the patches that a map calls important are the patches that the model needs.

Patches are hidden or shown in the order of their weight, and the model's outputs are recorded. Hidden patches are
replaced by the colour that is 0 for the model (the mean colour, if images are normalised by it), or by the blurred
image: a single kind of fill could favour a method by its artefacts.

Shapes: C channels, H x W pixels, h x w patch grid of P patches, R maps of one image, S steps, K classes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Classify = Callable[[Tensor], Tensor]
"""Images (B, C, H, W) to logits (B, K)."""

HIGHER_IS_BETTER: dict[str, bool] = {
    "deletion": False,
    "deletion_blur": False,
    "insertion": True,
    "insertion_blur": True,
    "positive": False,
    "negative": True,
}
"""Score -> whether higher values are better. All scores are in 0..1."""
_STEPS = 10
"""Each step of a curve hides or shows a tenth of the patches, or one patch if there are fewer than ten."""
_PIXELS = 2**23
"""Pixel values per forward pass, over all images: 55 colour images of 224 x 224."""
_MOST = 1024
"""Images per forward pass, at most."""
_BLUR = 1 / 4
"""Standard deviation of the blur as a share of the image's shorter side: shapes disappear, regions of colour stay."""
_TIES = 0x71E5
"""Changes an image's seed for the order of ties, so that it is independent of other numbers drawn with that seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """The model's outputs while patches are hidden or shown; each (R, S)."""

    shares: Tensor
    """The share of the patches that are hidden or shown so far, 0..1, (S,)."""
    deletion: Tensor
    """Probability of the class while the most important patches are hidden first."""
    insertion: Tensor
    """Probability of the class while the most important patches are shown first."""
    positive: Tensor
    """1 if the prediction is right, else 0, while the most important patches are hidden first."""
    negative: Tensor
    """1 if the prediction is right, else 0, while the least important patches are hidden first."""


def removal_order(maps: Tensor, *, seed: int) -> Tensor:
    """Rank the patches of each map by weight, (R, h, w) -> (R, h, w), 0 for the strongest.

    Equal weights are ranked in random order: a constant map must not get the score of hiding one corner first.
    """
    weights = maps.cpu().flatten(1)  # (R, P)
    shuffled = torch.randperm(weights.shape[1], generator=torch.Generator().manual_seed(seed ^ _TIES))
    order = shuffled[weights[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(dim=1).view(maps.shape)


def step_counts(patches: int) -> list[int]:
    """Compute how many patches are hidden or shown at each step, from 0 to all.

    The numbers are symmetric: in reverse order, they count the remaining patches.
    """
    half = {(step * patches + _STEPS // 2) // _STEPS for step in range(_STEPS // 2)} | {patches // 2}
    return sorted(half | {patches - count for count in half})


def blurred(images: Tensor) -> Tensor:
    """Blur images with a Gaussian, (..., H, W); only pixels inside the image count, and their weights sum to 1."""
    height, width = images.shape[-2:]
    deviation = _BLUR * min(height, width)
    return _gaussian(height, deviation).to(images) @ images @ _gaussian(width, deviation).to(images).T


def removal_curves(
    classify: Classify, image: Tensor, fill: Tensor, places: Tensor, *, target: int, expected: int
) -> Curves:
    """Record the model's outputs while the patches of one image are hidden or shown.

    Args:
        classify: the model; it gets many versions of the image at once.
        image: the image, (C, H, W).
        fill: the pixels that replace a hidden patch, (C, H, W).
        places: the ranks of the patches from ``removal_order``, (R, h, w).
        target: the class whose probability is recorded.
        expected: the class that counts as the right prediction.
    """
    maps, counts = len(places), torch.tensor(step_counts(places[0].numel()))
    shown = torch.stack([places[:, None] >= counts[:, None, None], places[:, None] < counts[:, None, None]])
    logits = _logits(classify, image, fill, shown.flatten(0, 2))  # (2, R, S, h, w) -> (2RS, K)
    answers = (logits.argmax(dim=1) == expected).float().view(2, maps, -1)
    probabilities = logits.softmax(dim=1)[:, target].view(2, maps, -1)
    return Curves(
        shares=counts / counts[-1],
        deletion=probabilities[0],
        insertion=probabilities[1],
        positive=answers[0],
        negative=answers[1].flip(1),  # hiding the least important first = showing the most important first, reversed
    )


def area(curve: Tensor, shares: Tensor) -> Tensor:
    """Compute the mean height of each curve, (R, S) -> (R,): the area below it, by trapezoids, over its width."""
    return torch.trapezoid(curve, shares, dim=-1) / (shares[-1] - shares[0])


def score_maps(
    classify: Classify, image: Tensor, maps: Tensor, *, target: int, expected: int, seed: int
) -> dict[str, Tensor]:
    """Score several maps of one image for faithfulness; each score is (R,).

    Deletion and insertion are areas below the curve of the class's probability, from no patch to all patches, with
    both fills (Petsiuk, Das & Saenko 2018, "RISE"). Positive and negative perturbation are areas below the accuracy
    while 0 % to 90 % of the patches are replaced by the colour that is 0 for the model, the most or the least relevant
    first (Chefer, Gur & Wolf 2021, "Transformer interpretability beyond attention visualization"), divided by the width
    of that range, so that the maximum is 1.

    Args:
        classify: the model.
        image: the model's input, (C, H, W).
        maps: the weights of the patches, signed or not, (R, h, w).
        target: the class that the maps explain.
        expected: the class that counts as right: the true class if it is known, else the target.
        seed: the seed for the order of ties.
    """
    places = removal_order(maps, seed=seed)
    mean = removal_curves(classify, image, torch.zeros_like(image), places, target=target, expected=expected)
    blur = removal_curves(classify, image, blurred(image), places, target=target, expected=expected)
    shares, most = mean.shares, slice(-1)  # the last step hides everything
    return {
        "deletion": area(mean.deletion, shares),
        "deletion_blur": area(blur.deletion, shares),
        "insertion": area(mean.insertion, shares),
        "insertion_blur": area(blur.insertion, shares),
        "positive": area(mean.positive[:, most], shares[most]),
        "negative": area(mean.negative[:, most], shares[most]),
    }


def points_at(maps: Tensor, masks: Tensor) -> Tensor:
    """Score the pointing game: 1 if the strongest patch touches the object, else 0; (B, h, w) and (B, H, W) -> (B,).

    If several patches are equally strong, the score is the share of them that touch the object.
    Source: Zhang et al. 2016, "Top-down neural attention by excitation backprop".
    """
    touches = F.adaptive_max_pool2d(masks.float(), (maps.shape[1], maps.shape[2])).flatten(1)
    strongest = (maps.flatten(1) == maps.flatten(1).amax(dim=1, keepdim=True)).float()
    return (strongest * touches).sum(dim=1) / strongest.sum(dim=1)


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """Compute the share of a map's positive weight that lies on the object, (B, h, w) and (B, H, W) -> (B,).

    For a map without positive weight, the result is the object's share of the image.
    Source: Wang et al. 2020, "Score-CAM".
    """
    inside = F.adaptive_avg_pool2d(masks.float(), (maps.shape[1], maps.shape[2]))
    weights = maps.relu()
    weights = torch.where(weights.sum(dim=(1, 2), keepdim=True) > 0, weights, 1.0)
    return (weights * inside).sum(dim=(1, 2)) / weights.sum(dim=(1, 2))


def _logits(classify: Classify, image: Tensor, fill: Tensor, shown: Tensor) -> Tensor:
    """Compute the logits of an image with some patches hidden: shown (M, h, w), bool -> (M, K), on the CPU.

    Versions that several maps share, for example all patches or none, go through the model once.
    """
    (height, width), (rows, columns) = image.shape[1:], shown.shape[1:]
    different, where = shown.flatten(1).unique(dim=0, return_inverse=True)
    batch = min(max(_PIXELS // image.numel(), 1), _MOST)
    logits = []
    for some in different.view(-1, 1, rows, columns).to(image.device).split(batch):
        pixels = some.repeat_interleave(height // rows, dim=2).repeat_interleave(width // columns, dim=3)
        logits.append(classify(torch.where(pixels, image, fill)))
    return torch.cat(logits).float().cpu()[where]


def _gaussian(length: int, deviation: float) -> Tensor:
    """Compute the blur weights of each position's neighbours, (length, length); rows sum to 1."""
    positions = torch.arange(length, dtype=torch.float32)
    weights = torch.exp(-0.5 * ((positions[:, None] - positions) / deviation) ** 2)
    return weights / weights.sum(dim=1, keepdim=True)
