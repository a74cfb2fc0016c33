"""Random changes of colours, and random erasing, for a whole batch at once.

Shapes: B images, C channels, H x W pixels. Random numbers are drawn on the CPU from the given generator.
"""

import math

import torch
from torch import Tensor

from vitcli.core.config import AugmentConfig

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""
_ERASED_AREA = (0.02, 0.33)
_ERASED_ASPECT = (0.3, 3.3)
_ATTEMPTS = 10


def changes_colours(config: AugmentConfig) -> bool:
    """Whether anything in a configuration does."""
    return max(config.brightness, config.contrast, config.saturation, config.hue) > 0


def random_colours(images: Tensor, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order, of some images.

    The ranges are those of torchvision's ColorJitter: factors in [1 - x, 1 + x], and the hue turned by up to ``hue``
    of a full circle either way. Grey images have no saturation and hue to change.

    Args:
        images: (B, C, H, W), pixels in 0..255.
        config: the ranges, and the probability that an image is changed at all.
        generator: the source of randomness, on the CPU.

    Returns:
        float32, (B, C, H, W), pixels in 0..255.
    """
    draws = torch.rand(5, images.shape[0], generator=generator)
    chosen = (draws[4] < config.colour_probability).nonzero()[:, 0]
    images = images.float()
    if not len(chosen):
        return images
    draws = 2 * draws[:4, chosen].to(images.device)[:, :, None, None, None] - 1  # in [-1, 1]
    pixels = images[chosen.to(images.device)]
    pixels = (pixels * (1 + config.brightness * draws[0])).clamp(0, 255)
    mean = _grey(pixels).mean(dim=(1, 2, 3), keepdim=True)
    pixels = torch.lerp(mean, pixels, 1 + config.contrast * draws[1]).clamp(0, 255)
    if images.shape[1] == len(_LUMA):
        pixels = torch.lerp(_grey(pixels), pixels, 1 + config.saturation * draws[2]).clamp(0, 255)
        if config.hue:
            pixels = _turned(pixels, config.hue * draws[3][:, 0])
    return images.index_copy(0, chosen.to(images.device), pixels)


def random_erase(images: Tensor, probability: float, generator: torch.Generator) -> Tensor:
    """Fill one rectangle of some images with noise (Zhong et al. 2020), in torchvision's ranges of size and shape.

    Args:
        images: model input, (B, C, H, W): normalised, so that noise of variance 1 looks like images.
        probability: that an image is changed.
        generator: the source of randomness, on the CPU.
    """
    batch, channels, height, width = images.shape
    images = images.clone()
    low, high = map(math.log, _ERASED_ASPECT)
    for index in (torch.rand(batch, generator=generator) < probability).nonzero()[:, 0].tolist():
        areas, shapes = torch.rand(2, _ATTEMPTS, generator=generator)
        area = height * width * (_ERASED_AREA[0] + (_ERASED_AREA[1] - _ERASED_AREA[0]) * areas)
        aspect = torch.exp(low + (high - low) * shapes)
        tall, wide = (area * aspect).sqrt().round().int(), (area / aspect).sqrt().round().int()
        fits = ((tall < height) & (wide < width)).nonzero()
        if not len(fits):
            continue
        rows, columns = int(tall[fits[0]]), int(wide[fits[0]])
        top, left = (torch.rand(2, generator=generator) * torch.tensor([height - rows + 1, width - columns + 1])).int()
        noise = torch.randn(channels, rows, columns, generator=generator)
        images[index, :, top : top + rows, left : left + columns] = noise.to(images.device)
    return images


def _grey(pixels: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 1, H, W)."""
    if pixels.shape[1] != len(_LUMA):
        return pixels
    weights = torch.tensor(_LUMA, device=pixels.device)[:, None, None]
    return (pixels * weights).sum(dim=1, keepdim=True)


def _turned(pixels: Tensor, turn: Tensor) -> Tensor:
    """The hue of each image turned by a share of the circle: (B, 3, H, W) and (B, 1, 1) -> (B, 3, H, W).

    A colour is its least channel, its greatest, and where the other lies between them around the circle of hues; each
    channel is a trapezoid of the hue (Smith 1978).
    """
    greatest, least = pixels.amax(dim=1), pixels.amin(dim=1)
    chroma = greatest - least
    red, green, blue = pixels.unbind(1)
    safe = chroma.clamp(min=1e-6)
    hue = torch.where(
        greatest == red,
        (green - blue) / safe,
        torch.where(greatest == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    hue = hue + 6 * turn
    channels = [greatest - chroma * _trapezoid(hue + offset) for offset in (5, 3, 1)]
    return torch.stack(channels, dim=1)


def _trapezoid(position: Tensor) -> Tensor:
    """How far a channel is below the greatest, 0..1, by its place on a circle of 6."""
    position = position.remainder(6)
    return torch.minimum(position, 4 - position).clamp(0, 1)
