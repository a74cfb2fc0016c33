"""TrivialAugment (Müller & Hutter 2021) and RandAugment (Cubuk et al. 2019), drawn separately for each image.

Operations and ranges are those of torchvision's TrivialAugmentWide and RandAugment with 31 strengths, bilinear
interpolation and black outside; the results are the same as torchvision's. Shapes: B images, C channels, H x W pixels,
uint8.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.preprocessing import Size
from vitcli.data.colour import grey
from vitcli.data.resample import warp
from vitcli.data.threaded import Change, Positions, to_device

_STRENGTHS = 31
_SOLARIZED = 255.0
_SIGNED = (
    *("shear-x", "shear-y", "translate-x", "translate-y", "rotate"),
    *("brightness", "colour", "contrast", "sharpness"),
)
"""Operations whose magnitude has a random sign."""
OPERATIONS = ("identity", *_SIGNED, "posterize", "solarize", "autocontrast", "equalize")


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """Magnitudes at the greatest strength; at the smallest, only solarizing changes pixels (those already white)."""

    shear: float
    """Tangent of the angle."""
    translate: tuple[float, float]
    """Pixels, horizontally and vertically."""
    rotate: float
    """Degrees."""
    blend: float
    """Difference from 1 of the factors of brightness, colour, contrast and sharpness."""
    posterize: int
    """Number of bits that are removed, of 8."""

    def table(self) -> Tensor:
        """Return the magnitudes by operation and strength, without sign: (14, 31)."""
        greatest = (0.0, *[self.shear] * 2, *self.translate, self.rotate, *[self.blend] * 4)
        rising = [torch.linspace(0, value, _STRENGTHS) for value in greatest]
        bits = (8 - torch.arange(_STRENGTHS) / ((_STRENGTHS - 1) / self.posterize)).round()
        nothing = torch.zeros(_STRENGTHS)
        return torch.stack([*rising, bits, _SOLARIZED * torch.linspace(1, 0, _STRENGTHS), nothing, nothing])


def ranges(policy: str, size: Size) -> Ranges:
    """Return a policy's ranges for images of this height and width."""
    if policy == "trivial":
        return Ranges(shear=0.99, translate=(32, 32), rotate=135, blend=0.99, posterize=6)
    height, width = size
    return Ranges(shear=0.3, translate=(150 / 331 * width, 150 / 331 * height), rotate=30, blend=0.9, posterize=4)


def random_policy(batch: int, size: Size, config: AugmentConfig, generator: torch.Generator) -> Change:
    """Draw the operations of ``config.policy`` for every image of a batch, uint8 with 1 or 3 channels.

    Args:
        batch: the number of images.
        size: the height and width of the images.
        config: the policy; for RandAugment, also the number of operations and their strength.
        generator: the source of randomness, on the CPU.
    """
    table = ranges(config.policy, size).table()
    number = config.policy_ops if config.policy == "rand" else 1
    drawn = [random_operations(batch, table, config, generator) for _ in range(number)]

    def change(images: Tensor, positions: Positions) -> Tensor:
        for operations, magnitudes in drawn:
            images = apply(images, operations[positions], magnitudes[positions])
        return images

    return change


def random_operations(
    batch: int, table: Tensor, config: AugmentConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw an operation (an index of OPERATIONS) and a magnitude for each image, both (B,)."""
    operations = torch.randint(len(OPERATIONS), (batch,), generator=generator)
    strengths = torch.randint(_STRENGTHS, (batch,), generator=generator)
    if config.policy == "rand":
        strengths = torch.full_like(strengths, config.policy_magnitude)
    is_signed = (operations > 0) & (operations <= len(_SIGNED))
    signs = 1 - 2.0 * (is_signed & (torch.rand(batch, generator=generator) < 0.5))
    return operations, signs * table[operations, strengths]


def apply(images: Tensor, operations: Tensor, magnitudes: Tensor) -> Tensor:
    """Apply one operation to each image.

    Images are grouped so that each operation runs once; the operations that move pixels share one resampling.

    Args:
        images: (B, C, H, W), uint8.
        operations: (B,), indices of OPERATIONS, on the CPU.
        magnitudes: (B,), in the units of torchvision, on the CPU.
    """
    result = images.clone()
    height, width = images.shape[2:]
    maps = _maps(operations, magnitudes, (height, width))
    moved = ((operations > 0) & (operations <= OPERATIONS.index("rotate"))).nonzero()[:, 0]
    if len(moved):
        here = to_device(moved, images.device)
        result[here] = warp(images[here], maps[moved], (height, width))
    for name, change in _TONES.items():
        members = (operations == OPERATIONS.index(name)).nonzero()[:, 0]
        if len(members):
            here = to_device(members, images.device)
            strengths = to_device(magnitudes[members], images.device)[:, None, None, None]
            result[here] = change(images[here], strengths)
    return result


def _maps(operations: Tensor, magnitudes: Tensor, size: Size) -> Tensor:
    """Compute maps from the result to the image, in pixels from the centre: (B, 2, 3); shears keep the corner 0, 0."""
    height, width = size
    shear_x, shear_y, across, down, degrees = (
        magnitudes * (operations == OPERATIONS.index(name)) for name in _SIGNED[:5]
    )
    angle = degrees.deg2rad()
    cos, sin = angle.cos(), angle.sin()
    top = torch.stack([cos, shear_x - sin, shear_x * (height / 2) - across.trunc()])
    bottom = torch.stack([shear_y + sin, cos, shear_y * (width / 2) - down.trunc()])
    return torch.stack([top, bottom]).permute(2, 0, 1)


def _blended(images: Tensor, other: Tensor, change: Tensor) -> Tensor:
    """Move images towards another image if the change is negative, and away from it if the change is positive."""
    factor = 1 + change
    return (images * factor + other * (1 - factor)).clamp_(0, 255).to(torch.uint8)


def brightness(images: Tensor, change: Tensor) -> Tensor:
    """Move images towards black (negative change) or away from it (positive)."""
    return _blended(images, torch.zeros_like(change), change)


def colour(images: Tensor, change: Tensor) -> Tensor:
    """Move images towards grey (negative change) or away from it (positive)."""
    return images if images.shape[1] == 1 else _blended(images, grey(images.float()).floor_(), change)


def contrast(images: Tensor, change: Tensor) -> Tensor:
    """Move images towards the mean of their grey version (negative change) or away from it (positive)."""
    mean = grey(images.float()).floor_().mean(dim=(1, 2, 3), keepdim=True)
    return _blended(images, mean, change)


def sharpness(images: Tensor, change: Tensor) -> Tensor:
    """Move images towards their blurred version (negative change) or away from it (positive).

    Pixels at the border do not change, nor do images that are only border.
    """
    if min(images.shape[2:]) <= 2:
        return images
    pixels = images.float()
    kernel = pixels.new_ones(3, 3)  # whole numbers, which TF32 convolutions on a GPU represent exactly
    kernel[1, 1] = 5
    blurred = F.conv2d(pixels.flatten(0, 1)[:, None], kernel[None, None]) / 13
    inside = pixels[:, :, 1:-1, 1:-1]
    inside.lerp_(blurred.round_().view_as(inside), -change)
    return pixels.clamp_(0, 255).to(torch.uint8)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the given number of highest bits of each pixel."""
    return images & (256 - 2.0 ** (8 - bits)).round().to(torch.uint8)  # a GPU's powers of 2 may be a bit off


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert pixels that are at least as bright as the threshold."""
    return torch.where(images >= threshold, 255 - images, images)


def autocontrast(images: Tensor, _magnitude: Tensor) -> Tensor:
    """Stretch each channel to 0..255; a channel with only one value does not change."""
    pixels = images.float()
    least, greatest = pixels.amin(dim=(2, 3), keepdim=True), pixels.amax(dim=(2, 3), keepdim=True)
    is_flat = greatest == least
    step = ((greatest - least) / 255).masked_fill_(is_flat, 1)
    return pixels.sub_(least.masked_fill_(is_flat, 0)).div_(step).clamp_(0, 255).to(torch.uint8)


def equalize(images: Tensor, _magnitude: Tensor) -> Tensor:
    """Make the grey levels of each channel about equally frequent, with Pillow's arithmetic.

    A level becomes the number of pixels below it, divided by 1/255 of the number of pixels below the greatest level.
    """
    planes = images.flatten(0, 1).flatten(1).long()  # (B * C, H * W)
    starts = 256 * torch.arange(len(planes), device=planes.device)[:, None]
    counts = planes.new_zeros(len(planes) * 256)  # a single axis makes the sum deterministic on a GPU
    counts.scatter_add_(0, (planes + starts).flatten(), torch.ones_like(planes).flatten())
    counts = counts.view(-1, 256)
    below = counts.cumsum(dim=1) - counts
    step = counts.gather(1, planes.amax(dim=1, keepdim=True)).neg_().add_(planes.shape[1]) // 255
    levels = ((below + step // 2) // step.clamp(min=1)).clamp_(0, 255)
    levels = torch.where(step > 0, levels, torch.arange(256, device=planes.device))
    return levels.to(torch.uint8).gather(1, planes).view_as(images)


_TONES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "brightness": brightness,
    "colour": colour,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
}
