"""Faithfulness: whether the patches that a map calls important are those that the model needs.

Patches are hidden in the order of their weight, or shown, and the model is watched. Hidden ones are replaced by the
mean colour, or by what they look like after blurring: one fill alone could favour a method by its artefacts.

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
"""The scores; all are in 0..1."""
_STEPS = 10
"""Each step of a curve hides or shows a tenth of the patches, or one where they are fewer."""
_PIXELS = 2**23
"""Values of the images that go through the model at once: 55 colour images of 224 x 224."""
_MOST = 1024
"""And at most so many images."""
_BLUR = 1 / 4
"""Standard deviation of the blur as a share of the image's shorter side: shapes go, regions of colour stay."""
_TIES = 0x71E5
"""Sets the order of ties apart from other things that are drawn with an image's seed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curves:
    """The model's answers while patches disappear or appear; each (R, S)."""

    shares: Tensor
    """Of the patches that are hidden or shown so far, 0..1, (S,)."""
    deletion: Tensor
    """Probability of the class, the most important patches hidden first."""
    insertion: Tensor
    """The same, the most important patches shown first."""
    positive: Tensor
    """Whether the answer is right (1 or 0), the most important patches hidden first."""
    negative: Tensor
    """The same, the least important patches hidden first."""


def removal_order(maps: Tensor, *, seed: int) -> Tensor:
    """The place of each patch in the order of weight, (R, h, w) -> (R, h, w), 0 for the strongest.

    Equal weights come in a random order, so that a map that tells nothing does not get the score of a corner.
    """
    weights = maps.cpu().flatten(1)  # (R, P)
    shuffled = torch.randperm(weights.shape[1], generator=torch.Generator().manual_seed(seed ^ _TIES))
    order = shuffled[weights[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(dim=1).view(maps.shape)


def step_counts(patches: int) -> list[int]:
    """Compute how many patches are hidden or shown at each step, from 0 to all; the same numbers count those that are left."""
    half = {(step * patches + _STEPS // 2) // _STEPS for step in range(_STEPS // 2)} | {patches // 2}
    return sorted(half | {patches - count for count in half})


def blurred(images: Tensor) -> Tensor:
    """A Gaussian blur of every pixel; beyond the border there is nothing, and weights still sum to 1; (..., H, W)."""
    height, width = images.shape[-2:]
    deviation = _BLUR * min(height, width)
    return _gaussian(height, deviation).to(images) @ images @ _gaussian(width, deviation).to(images).T


def removal_curves(
    classify: Classify, image: Tensor, fill: Tensor, places: Tensor, *, target: int, expected: int
) -> Curves:
    """Watch the model while the patches of one image disappear or appear.

    Args:
        classify: the model; it sees many versions of the image at once.
        image: (C, H, W).
        fill: what takes the place of a hidden patch, (C, H, W).
        places: the orders, of ``removal_order``, (R, h, w).
        target: the class whose probability is watched.
        expected: the class that counts as the right answer.
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
        negative=answers[1].flip(1),  # to hide the least important first is to show the most important first, backwards
    )


def area(curve: Tensor, shares: Tensor) -> Tensor:
    """The mean height of a curve, (R, S) -> (R,): the area below it, by trapezoids, over its width."""
    return torch.trapezoid(curve, shares, dim=-1) / (shares[-1] - shares[0])


def score_maps(
    classify: Classify, image: Tensor, maps: Tensor, *, target: int, expected: int, seed: int
) -> dict[str, Tensor]:
    """The scores of several maps of one image, each (R,).

    Deletion and insertion are areas below the probability of the class, from none of the patches to all, with both
    fills (Petsiuk, Das & Saenko 2018, "RISE"). Positive and negative perturbation are areas below the accuracy while
    0 % to 90 % are replaced by the mean colour, the most or the least relevant first (Chefer, Gur & Wolf 2021,
    "Transformer interpretability beyond attention visualization"), divided by that width, so that 1 is the most.

    Args:
        classify: the model.
        image: normalised, so that 0 is the mean colour, (C, H, W).
        maps: weights of patches, signed or not, (R, h, w).
        target: the class that the maps were asked about.
        expected: the class that counts as right: the true one where it is known, else the target.
        seed: of the order of ties.
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
    """Pointing game: whether the strongest patch touches the object, (B, h, w) and (B, H, W) -> (B,).

    Of several that are equally strong it is the share that does.
    Source: Zhang et al. 2016, "Top-down neural attention by excitation backprop".
    """
    touches = F.adaptive_max_pool2d(masks.float(), (maps.shape[1], maps.shape[2])).flatten(1)
    strongest = (maps.flatten(1) == maps.flatten(1).amax(dim=1, keepdim=True)).float()
    return (strongest * touches).sum(dim=1) / strongest.sum(dim=1)


def energy_inside(maps: Tensor, masks: Tensor) -> Tensor:
    """The share of a map's weight, as far as it is positive, that lies on the object, (B, h, w) and (B, H, W) -> (B,).

    Of a map without any it is the object's share of the image.
    Source: Wang et al. 2020, "Score-CAM".
    """
    inside = F.adaptive_avg_pool2d(masks.float(), (maps.shape[1], maps.shape[2]))
    weights = maps.relu()
    weights = torch.where(weights.sum(dim=(1, 2), keepdim=True) > 0, weights, 1.0)
    return (weights * inside).sum(dim=(1, 2)) / weights.sum(dim=(1, 2))


def _logits(classify: Classify, image: Tensor, fill: Tensor, shown: Tensor) -> Tensor:
    """The model's logits for an image of which some patches are hidden: shown (M, h, w), bool -> (M, K), on the CPU.

    What several maps have in common, as all patches and none, is looked at once.
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
    """Weights of each position's neighbours, rows summing to 1, (length, length)."""
    positions = torch.arange(length, dtype=torch.float32)
    weights = torch.exp(-0.5 * ((positions[:, None] - positions) / deviation) ** 2)
    return weights / weights.sum(dim=1, keepdim=True)
