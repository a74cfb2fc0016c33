"""Random erasing (Zhong et al. 2020), with torchvision's distribution of rectangles, for a whole batch at once."""

import math

import torch
from torch import Tensor

from vitcli.data.shares import Share
from vitcli.data.threaded import to_device

_AREA = (0.02, 0.33)
_ASPECT = (0.3, 3.3)
"""Smallest and largest height / width."""
_ATTEMPTS = 10


def random_erase(images: Tensor, probability: float, generator: torch.Generator, share: Share | None = None) -> Tensor:
    """Fill one rectangle of some images with noise, in place.

    Args:
        images: model input, (B, C, H, W): normalised, so that noise of variance 1 has the spread of images.
        probability: the probability that an image is changed.
        generator: the source of randomness, on the CPU.
        share: the share of the batch that ``images`` are; None: the whole batch.
    """
    (channels, height, width), batch = images.shape[1:], share.batch if share else len(images)
    chosen = (torch.rand(batch, generator=generator) < probability).nonzero()[:, 0]
    top, left, tall, wide = random_rectangles(len(chosen), height, width, generator)[:, :, None]
    y, x = torch.arange(height), torch.arange(width)
    rows, columns = (y >= top) & (y < top + tall), (x >= left) & (x < left + wide)
    places = rows[:, None, :, None] & columns[:, None, None, :]
    noise = torch.randn(channels * int((tall * wide).sum()), generator=generator)
    if share:  # the noise was drawn for all images of the batch, one after the other
        here = torch.isin(chosen, share.members)
        each = noise.split((channels * (tall * wide)[:, 0]).tolist())
        noise = torch.cat([noise[:0], *(each[at] for at in here.nonzero()[:, 0].tolist())])
        chosen, places = torch.searchsorted(share.members, chosen[here]), places[here]
    if len(noise):
        chosen, places, noise = (to_device(each, images.device) for each in (chosen, places, noise))
        images[chosen] = images[chosen].masked_scatter_(places, noise.to(images.dtype))
    return images


def random_rectangles(number: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw random rectangles, (4, number): top, left, height and width in whole pixels.

    A rectangle is empty (0 x 0) if none of ten attempts fits.
    """
    areas, shapes = torch.rand(2, _ATTEMPTS, number, generator=generator, dtype=torch.float64)
    places = torch.rand(2, number, generator=generator, dtype=torch.float64)
    area = height * width * (_AREA[0] + (_AREA[1] - _AREA[0]) * areas)
    low, high = map(math.log, _ASPECT)
    aspect = torch.exp(low + (high - low) * shapes)
    limits = torch.tensor([height, width])[:, None]
    sides = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()]).round()  # (2, attempts, number)
    fits = (sides < limits[:, None]).all(dim=0)
    first = fits.int().argmax(dim=0)
    sides = sides.gather(1, first.expand(2, 1, -1))[:, 0] * fits.any(dim=0)
    corners = (places * (limits - sides + 1)).floor()
    return torch.cat([corners, sides]).long()
