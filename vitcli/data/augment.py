"""Random changes for a whole batch at once, on the device: no Python loop touches single images.

Shapes: B images, C channels, H x W stored pixels. Random numbers are drawn on the CPU from the given generator, so
that the same seed gives the same batch on every device.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.config import AugmentConfig
from vitcli.data.preprocess import InputTransform


class TrainTransform:
    """uint8 images to augmented model input; MixUp and CutMix, which change labels too, belong to the engine."""

    def __init__(self, config: AugmentConfig, to_input: InputTransform) -> None:
        self.config = config
        self.to_input = to_input

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, h, w) uint8 -> (B, C, H, W) float32."""
        config = self.config
        if config.crop_padding:
            images = random_crop(images, config.crop_padding, generator)
        for probability, axis in ((config.flip, 3), (config.vertical_flip, 2)):
            if probability:
                images = random_flip(images, probability, axis, generator)
        if config.crop_scale == 1:
            return self.to_input(images)
        size = self.to_input.image_size
        return random_resized_crop(
            self.to_input.normalised(images), size, config.crop_scale, config.crop_ratio, generator
        )


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


def random_resized_crop(
    images: Tensor, size: tuple[int, int], min_scale: float, ratio: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """Cut out a random share of the area, in [min_scale, 1], at a random aspect ratio and place; resize bilinearly.

    Args:
        images: float, (B, C, h, w).
        size: height and width of the result.
        min_scale: the least share of the area.
        ratio: least and greatest width over height, drawn log-uniformly; narrowed where the image is too small.
        generator: the source of randomness, on the CPU.
    """
    batch, _, height, width = images.shape
    share, shape, place_x, place_y = torch.rand(4, batch, generator=generator)
    area = height * width * (min_scale + (1 - min_scale) * share)
    log_low, log_high = math.log(ratio[0]), math.log(ratio[1])
    aspect = torch.exp(log_low + (log_high - log_low) * shape)
    crop_width = (area * aspect).sqrt().clamp(max=width) / width  # as shares of the image
    crop_height = (area / aspect).sqrt().clamp(max=height) / height
    centre_x = (2 * place_x - 1) * (1 - crop_width)  # in [-1, 1], as grid_sample counts
    centre_y = (2 * place_y - 1) * (1 - crop_height)
    zero = torch.zeros(batch)
    affine = torch.stack([crop_width, zero, centre_x, zero, crop_height, centre_y], dim=1).view(batch, 2, 3)
    grid = F.affine_grid(affine.to(images.device), [batch, 1, *size], align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
