"""MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019): each image is mixed with another of its batch."""

import math

import numpy as np
import torch
from torch import Tensor

from vitcli.core.seeds import derived_seed


class Mixing:
    """MixUp and CutMix of a batch with itself in reverse order.

    Args:
        mixup: alpha of MixUp's Beta distribution; 0: off.
        cutmix: alpha of CutMix's Beta distribution; 0: off. If both are on, each batch draws one of them.
        seed: seed of all random draws.
    """

    def __init__(self, *, mixup: float, cutmix: float, seed: int) -> None:
        self.alphas = {name: alpha for name, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha}
        self.seed = seed

    def __bool__(self) -> bool:
        return bool(self.alphas)

    def __call__(self, images: Tensor, *, epoch: int, step: int) -> tuple[Tensor, float]:
        """Mix images (B, C, H, W); return them, and the share of each image's own label.

        The rest is the share of its partner's label; the partner of image i is image B - 1 - i. Every step of every
        epoch has its own random draws.
        """
        random = np.random.default_rng(derived_seed("mixing", self.seed, epoch, step))
        name = random.choice(list(self.alphas))
        share = random.beta(self.alphas[name], self.alphas[name])
        partners = images.flip(0)
        if name == "mixup":
            return torch.lerp(partners, images, share), share
        height, width = images.shape[-2:]
        side = math.sqrt(1 - share)
        box_height, box_width = round(height * side), round(width * side)
        top = random.integers(height - box_height + 1)
        left = random.integers(width - box_width + 1)
        box = (..., slice(top, top + box_height), slice(left, left + box_width))
        images = images.clone()
        images[box] = partners[box]
        return images, 1 - box_height * box_width / (height * width)
