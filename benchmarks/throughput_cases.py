"""The models to compare, in both libraries; part of benchmarks/training_throughput.py."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Case:
    """A model in both libraries, with its images, batch sizes and goal."""

    title: str
    ours: str
    theirs: str
    changes: Mapping[str, Any]
    """The arguments that give timm's model the shape of ours."""
    size: int
    file_size: tuple[int, int]
    """Width and height of the image files."""
    num_images: int
    """The size of the data set that the model is usually trained on."""
    on_gpu: tuple[int, int]
    """The images in a batch, and the number of timed steps."""
    on_cpu: tuple[int, int]
    wanted: float
    """The goal for the speed, as a multiple of timm's; 0: there is no goal."""


PHOTOS: dict[str, Any] = {
    "file_size": (500, 375),
    "num_images": 1_281_167,
    "on_cpu": (4, 4),
    "changes": {},
}
CASES = {
    "cifar": Case(
        title="119k CIFAR model at 32",
        ours="vit-nano-patch4",
        theirs="vit_tiny_patch16_224",
        changes={
            "img_size": 32,
            "patch_size": 4,
            "embed_dim": 48,
            "depth": 4,
            "num_heads": 4,
            "class_token": False,
            "global_pool": "avg",
        },
        size=32,
        file_size=(32, 32),
        num_images=50_000,
        on_gpu=(512, 80),
        on_cpu=(64, 8),
        wanted=5,
    ),
    "deit-tiny": Case(
        title="DeiT-tiny at 224",
        ours="vit-tiny-patch16",
        theirs="deit_tiny_patch16_224",
        size=224,
        on_gpu=(256, 64),
        wanted=1.3,
        **PHOTOS,
    ),
    "small": Case(
        title="ViT-S at 224",
        ours="vit-small-patch16",
        theirs="vit_small_patch16_224",
        size=224,
        on_gpu=(512, 24),
        wanted=1.3,
        **PHOTOS,
    ),
    "base": Case(
        title="ViT-B at 224",
        ours="vit-base-patch16",
        theirs="vit_base_patch16_224",
        size=224,
        on_gpu=(256, 16),
        wanted=1.3,
        **PHOTOS,
    ),
    "base-384": Case(
        title="ViT-B at 384",
        ours="vit-base-patch16",
        theirs="vit_base_patch16_384",
        size=384,
        on_gpu=(96, 16),
        wanted=0,
        **PHOTOS,
    ),
}


def count_weights(model: torch.nn.Module) -> int:
    """Count the trained numbers of a model."""
    return sum(parameter.numel() for parameter in model.parameters())
