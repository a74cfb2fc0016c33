"""Random changes for a whole batch at once, on the device.

Shapes: B images, C channels, H x W stored pixels. Random numbers are drawn on the CPU from the given generator, so
that the same seed gives the same batch on every device.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.preprocessing import Size
from vitcli.data.colour import changes_colours, random_colours
from vitcli.data.erase import random_erase
from vitcli.data.policies import random_policy
from vitcli.data.preprocess import InputTransform
from vitcli.data.resample import random_resample, resamples
from vitcli.data.shares import Share
from vitcli.data.threaded import Change, Positions, change_threaded, to_device


class TrainTransform:
    """The transform from uint8 images to augmented model input, without MixUp and CutMix.

    MixUp and CutMix also change labels, so they belong to the engine. The order is that of torchvision and timm: crops,
    flips and turns, then a policy and colours, then normalisation, and erasing last. Pixels are uint8 until the colours
    change.
    """

    def __init__(self, config: AugmentConfig, to_input: InputTransform) -> None:
        self.config = config
        self.to_input = to_input

    def __call__(
        self,
        images: Tensor,
        generator: torch.Generator,
        stretch: Tensor | None = None,
        share: Share | None = None,
    ) -> Tensor:
        """Augment a batch, (B, C, h, w) uint8 -> (B, C, H, W) float32.

        The images of a share are changed in the same way as in the whole batch.

        Args:
            images: the batch, or a share of it.
            generator: the source of randomness, on the CPU.
            stretch: the stretch of each image of the whole batch, as in ``PreparedSplit``, (B,); None: all 1.
            share: the share; None: the whole batch.
        """
        size: Size = (images.shape[2], images.shape[3])
        batch = share.batch if share else len(images)
        change = self._drawn(size, torch.ones(batch) if stretch is None else stretch, generator)
        if share:
            change = _of_share(share, change)
        inputs = change_threaded(change, images, (images.shape[1], *self.to_input.image_size))
        return random_erase(inputs, self.config.erase, generator, share) if self.config.erase else inputs

    def _drawn(self, size: Size, stretch: Tensor, generator: torch.Generator) -> Change:
        """Draw all changes except erasing for images of this size and stretch."""
        config, to_input, batch = self.config, self.to_input, len(stretch)
        changes = []
        if config.crop_padding:
            changes.append(random_crop(batch, config.crop_padding, generator))
        if resamples(config):
            changes.append(random_resample(stretch, size, to_input.image_size, config, generator))
            size = to_input.image_size
        else:
            flips = ((config.flip, 3), (config.vertical_flip, 2))
            changes += [random_flip(batch, chance, axis, generator) for chance, axis in flips if chance]
        if config.policy != "none":
            changes.append(random_policy(batch, size, config, generator))
        colours = random_colours(batch, config, generator) if changes_colours(config) else None

        def change(images: Tensor, positions: Positions) -> Tensor:
            for each in changes:
                images = each(images, positions)
            return to_input.resized(to_input.normalised(*(colours(images, positions) if colours else (images,))))

        return change


def _of_share(share: Share, change: Change) -> Change:
    """Restrict a change that was drawn for a whole batch to the images of a share."""
    return lambda images, positions: change(images, share.members[positions])


def random_crop(batch: int, padding: int, generator: torch.Generator) -> Change:
    """Draw random crops: pad each image with zeros, and cut out the original size at a random place."""
    top, left = torch.randint(2 * padding + 1, (2, batch), generator=generator)

    def change(images: Tensor, positions: Positions) -> Tensor:
        height, width = images.shape[2:]
        windows = F.pad(images, [padding] * 4).unfold(2, height, 1).unfold(3, width, 1)  # (b, C, 2p+1, 2p+1, H, W)
        order = torch.arange(len(images), device=images.device)
        return windows[order, :, to_device(top[positions], images.device), to_device(left[positions], images.device)]

    return change


def random_flip(batch: int, probability: float, axis: int, generator: torch.Generator) -> Change:
    """Draw random flips: mirror each image along an axis with the given probability."""
    chosen = torch.rand(batch, generator=generator)[:, None, None, None] < probability
    return lambda images, positions: torch.where(to_device(chosen[positions], images.device), images.flip(axis), images)
