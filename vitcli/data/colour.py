"""Random colour changes for a whole batch at once.

Shapes: B images, C channels, H x W pixels. Random numbers are drawn on the CPU from the given generator.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vitcli.core.augment_config import AugmentConfig
from vitcli.data.threaded import Positions, to_device

_LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""
_STRENGTHS = ("brightness", "contrast", "saturation", "hue")
_OFFSET = "brightness_offset"

ColourChange = Callable[[Tensor, Positions], tuple[Tensor, Tensor, Tensor]]
"""A colour change: from pixels in 0..255, (b, C, H, W), to float32 values of that shape, a gain and an offset.

It is called like ``threaded.Change``. The changed pixels are gain * values + offset; gain and offset are (b, 1, 1, 1).
Brightness and contrast are linear except for the limits of a pixel, and saturation and hue do not depend on gain and
offset. So values are only clipped, to keep their pixels in 0..255. The total gain and offset are applied by
normalisation, which is linear as well.
"""


def changes_colours(config: AugmentConfig) -> bool:
    """Tell whether a configuration changes colours."""
    return config.grey > 0 or any(getattr(config, name) > 0 for name in (*_STRENGTHS, _OFFSET))


def random_colours(batch: int, config: AugmentConfig, generator: torch.Generator) -> ColourChange:
    """Draw changes of brightness, contrast, saturation and hue for some images of a batch, and turn some grey.

    The ranges and the random order are those of torchvision's ColorJitter. The order is drawn once for the batch: each
    image still sees every order equally often, and each change runs once for all images. Saturation and hue of grey
    images cannot change.

    Args:
        batch: the number of images.
        config: the ranges, and the probabilities that an image is changed at all and that it turns grey.
        generator: the source of randomness, on the CPU.
    """
    order = torch.randperm(len(_STRENGTHS), generator=generator).tolist()
    is_on = {name: getattr(config, name) > 0 for name in _STRENGTHS}
    is_on["brightness"] |= config.brightness_offset > 0
    names = [_STRENGTHS[change] for change in order if is_on[_STRENGTHS[change]]]
    factors = dict(zip((*_STRENGTHS, _OFFSET), random_factors(batch, config, generator), strict=False))
    turns_grey = torch.rand(batch, generator=generator) < config.grey

    def change(images: Tensor, positions: Positions) -> tuple[Tensor, Tensor, Tensor]:
        pixels = _Pixels(images)
        for name in names:
            if images.shape[1] == len(_LUMA) or name in {"brightness", "contrast"}:
                given = (
                    [factors[name], 255 * factors[_OFFSET]]
                    if name == "brightness" and _OFFSET in factors
                    else [factors[name]]
                )
                getattr(pixels, name)(*(each[positions, None, None, None] for each in given))
        if len(members := to_device(turns_grey[positions].nonzero()[:, 0], images.device)):
            pixels.values[members] = grey(pixels.values[members]).expand(-1, images.shape[1], -1, -1)
        return pixels.values, pixels.gain, pixels.offset

    return change


def random_factors(batch: int, config: AugmentConfig, generator: torch.Generator) -> Tensor:
    """Draw factors of brightness, contrast and saturation, and the turn of the hue as a share of the circle: (4, B).

    With ``brightness_offset``, there is a fifth row: the share of white that is added.
    """
    chosen = torch.rand(batch, generator=generator) < config.colour_probability
    names = (*_STRENGTHS, _OFFSET) if config.brightness_offset else _STRENGTHS
    strengths = torch.tensor([getattr(config, name) for name in names])[:, None]
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])[: len(names), None]
    low, high = neutral - strengths, neutral + strengths
    low[:3].clamp_(min=0)
    drawn = low + (high - low) * torch.rand(len(names), batch, generator=generator)
    return torch.where(chosen, drawn, neutral)


class _Pixels:
    """Images during their colour changes, which all work in place, except the hue.

    Factors, (b, 1, 1, 1), are on the CPU, where reading their values takes no time.
    """

    def __init__(self, images: Tensor) -> None:
        self.values = images.to(torch.float32, copy=True)
        self.gain = self.values.new_ones(len(images), 1, 1, 1)
        self.offset = self.values.new_zeros(len(images), 1, 1, 1)

    def _limit(self, factor: Tensor, *, below: bool = True) -> None:
        """Clip pixels to 0..255 after a change that can leave this range only if its factor is above 1."""
        if not bool((factor > 1).any()):
            return
        torch.minimum(self.values, (255 - self.offset) / self.gain, out=self.values)  # clamp takes four times as long
        if below:
            torch.maximum(self.values, -self.offset / self.gain, out=self.values)

    def _scale(self, factor: Tensor) -> None:
        self.gain = (self.gain * factor).clamp(min=1e-6)  # because limits are divided by it
        self.offset = self.offset * factor

    def brightness(self, factor: Tensor, offset: Tensor | None = None) -> None:
        """Multiply pixels, and add an offset; they are clipped afterwards."""
        self._scale(to_device(factor, self.values.device))
        if offset is not None:
            self.offset = self.offset + to_device(offset, self.values.device)
            factor = torch.full_like(factor, 2.0)  # any pixel may be out of range
        self._limit(factor, below=offset is not None)

    def contrast(self, factor: Tensor) -> None:
        here = to_device(factor, self.values.device)
        mean = grey(self.values.mean(dim=(2, 3), keepdim=True)) * self.gain + self.offset
        self._scale(here)
        self.offset = self.offset + (1 - here) * mean
        self._limit(factor)

    def saturation(self, factor: Tensor) -> None:
        here = to_device(factor, self.values.device)
        towards = grey(self.values).mul_(1 - here)
        self.values.mul_(here).add_(towards)
        self._limit(factor)

    def hue(self, turn: Tensor) -> None:
        self.values = _turned(self.values, to_device(turn[:, 0], self.values.device))


def grey(pixels: Tensor) -> Tensor:
    """Convert pixels to grey, (B, C, H, W) -> (B, 1, H, W)."""
    if pixels.shape[1] != len(_LUMA):
        return pixels
    red, green, blue = (weight * pixels[:, channel : channel + 1] for channel, weight in enumerate(_LUMA))
    return red.add_(green).add_(blue)


def _turned(pixels: Tensor, turn: Tensor) -> Tensor:
    """Turn the hue of each image by a share of the circle: (B, 3, H, W) and (B, 1, 1) -> (B, 3, H, W).

    A colour is given by its smallest channel, its greatest channel and its hue, the position of the third channel
    between them on a circle; each channel is a trapezoid function of the hue (Smith 1978).
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
    """Compute how far a channel is below the greatest one, 0..1, from its position on a circle of length 6."""
    position = position.remainder(6)
    return torch.minimum(position, 4 - position).clamp(0, 1)
