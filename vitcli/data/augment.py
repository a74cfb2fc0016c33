"""Random changes for a whole batch at once, on the device: no Python loop touches single images.

Shapes: B images, C channels, H x W stored pixels. Random numbers are drawn on the CPU from the given generator, so
that the same seed gives the same batch on every device.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.config import AugmentConfig
from vitcli.data.colour import changes_colours, random_colours, random_erase
from vitcli.data.preprocess import InputTransform


class TrainTransform:
    """uint8 images to augmented model input; MixUp and CutMix, which change labels too, belong to the engine."""

    def __init__(self, config: AugmentConfig, to_input: InputTransform) -> None:
        self.config = config
        self.to_input = to_input
        self.resamples = config.crop_scale < 1 or max(config.rotate, config.zoom, config.shift) > 0

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, h, w) uint8 -> (B, C, H, W) float32."""
        config = self.config
        if config.crop_padding:
            images = random_crop(images, config.crop_padding, generator)
        for probability, axis in ((config.flip, 3), (config.vertical_flip, 2)):
            if probability:
                images = random_flip(images, probability, axis, generator)
        if self.resamples:
            images = random_resample(images, self.to_input.image_size, config, generator)
        if changes_colours(config):
            images = random_colours(images, config, generator)
        inputs = self.to_input(images)
        return random_erase(inputs, config.erase, generator) if config.erase else inputs


def random_crop(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """Pad with zeros and cut out the original size at a random place, per image."""
    batch, _, height, width = images.shape
    windows = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2p+1, 2p+1, H, W), a view
    top, left = torch.randint(2 * padding + 1, (2, batch), generator=generator).to(images.device)
    return windows[torch.arange(batch, device=images.device), :, top, left]


def random_flip(images: Tensor, probability: float, axis: int, generator: torch.Generator) -> Tensor:
    """Mirror each image along an axis with the given probability."""
    chosen = torch.rand(images.shape[0], generator=generator) < probability
    return torch.where(chosen[:, None, None, None].to(images.device), images.flip(axis), images)


def random_resample(images: Tensor, size: tuple[int, int], config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Random resized crop, rotation, zoom and shift in one bilinear resampling; what lies outside is black.

    The crop keeps a share of the area, uniform in [crop_scale, 1], at an aspect ratio that is log-uniform in
    crop_ratio and narrowed where the image is too small for it.

    Args:
        images: (B, C, h, w), pixels in 0..255.
        size: height and width of the result.
        config: the ranges.
        generator: the source of randomness, on the CPU.

    Returns:
        float32, (B, C, *size), pixels in 0..255.
    """
    batch, _, height, width = images.shape
    draws = torch.rand(8, batch, generator=generator)
    share, shape = draws[:2]
    place, affine = 2 * draws[2:4] - 1, 2 * draws[4:] - 1  # in [-1, 1]
    if config.affine_probability < 1:
        affine = affine * (torch.rand(batch, generator=generator) < config.affine_probability)
    (place_x, place_y), (turn, growth, shift_x, shift_y) = place, affine
    crop_width, crop_height = _crop_sizes(share, shape, height, width, config)  # as shares of the image
    zoom = (1 + config.zoom) ** growth
    angle = math.radians(config.rotate) * turn
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    centre_x = place_x * (1 - crop_width) + 2 * config.shift * shift_x  # in [-1, 1], as grid_sample counts
    centre_y = place_y * (1 - crop_height) + 2 * config.shift * shift_y
    aspect = (crop_width * width) / (crop_height * height)
    top = torch.stack([crop_width * cos, -crop_width * sin / aspect, centre_x], dim=1)
    bottom = torch.stack([crop_height * sin * aspect, crop_height * cos, centre_y], dim=1)
    affine = torch.stack([top, bottom], dim=1).to(images.device)  # output to input coordinates, (B, 2, 3)
    grid = F.affine_grid(affine, [batch, 1, *size], align_corners=False)
    leaves_image = max(config.rotate, config.zoom, config.shift) > 0  # a crop does not, so its edges must not fade
    padding = "zeros" if leaves_image else "border"
    return F.grid_sample(images.to(grid.dtype), grid, mode="bilinear", padding_mode=padding, align_corners=False)


def _crop_sizes(share: Tensor, shape: Tensor, height: int, width: int, config: AugmentConfig) -> tuple[Tensor, Tensor]:
    """Width and height of random crops as shares of the image's; two draws in [0, 1) per image."""
    if config.crop_scale == 1:
        return torch.ones_like(share), torch.ones_like(share)
    area = height * width * (config.crop_scale + (1 - config.crop_scale) * share)
    log_low, log_high = (math.log(ratio) for ratio in config.crop_ratio)
    aspect = torch.exp(log_low + (log_high - log_low) * shape).clamp(area / height**2, width**2 / area)
    return (area * aspect).sqrt() / width, (area / aspect).sqrt() / height
