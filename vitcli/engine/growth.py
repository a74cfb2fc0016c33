"""Progressive image size (Tan & Le 2021, EfficientNetV2): training begins with small images, which cost less.

It ends with images of full size, and validation uses only these.
"""

import math

from torch import Tensor
from torch.nn import functional as F

from vitcli.core.optim_config import OptimConfig
from vitcli.core.preprocessing import Size

_STAGES = 4
"""Number of stages, all equally long; sizes grow linearly, and the last stage has full size."""


class Growth:
    """The image size of every epoch.

    Args:
        share: share of height and width that training begins with, in (0, 1).
        epochs: number of epochs of the whole training.
        image_size: the full image size.
        patch_size: the patch size; every image size is a multiple of it.
    """

    def __init__(self, share: float, *, epochs: int, image_size: Size, patch_size: Size) -> None:
        self._share = share
        self._epochs = epochs
        self._image_size = image_size
        self._patch_size = patch_size

    def size(self, epoch: int) -> Size:
        """Return the image size of an epoch, counted from 1."""
        done = (epoch - 1) * _STAGES // self._epochs / (_STAGES - 1)
        share = 1.0 if epoch >= self._epochs else self._share + (1 - self._share) * done
        height, width = (
            max(round(share * side / patch), 1) * patch
            for side, patch in zip(self._image_size, self._patch_size, strict=True)
        )
        return height, width

    @property
    def sizes(self) -> list[Size]:
        """The different image sizes of all epochs, the full size first."""
        return sorted({self.size(epoch) for epoch in range(1, self._epochs + 1)}, reverse=True)

    @property
    def mean_share(self) -> float:
        """The mean number of pixels of all epochs, as a share of those of full size."""
        areas = [math.prod(self.size(epoch)) for epoch in range(1, self._epochs + 1)]
        return sum(areas) / len(areas) / math.prod(self._image_size)

    def __call__(self, images: Tensor, epoch: int) -> Tensor:
        """Resize images (B, C, H, W) to the size of an epoch: bilinear and antialiased."""
        size = self.size(epoch)
        if images.shape[-2:] == size:
            return images
        return F.interpolate(images, size, mode="bilinear", antialias=True)


def build_growth(config: OptimConfig, *, image_size: Size, patch_size: Size) -> Growth | None:
    """Build the growth of image sizes that a configuration asks for; None: images keep their size."""
    if not config.progressive:
        return None
    return Growth(config.progressive, epochs=config.epochs, image_size=image_size, patch_size=patch_size)
