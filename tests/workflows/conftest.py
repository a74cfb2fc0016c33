"""A small model that has learnt to look at one patch, and images of which it is known which one."""

from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.model_config import ModelConfig
from vitcli.models.vit import VisionTransformer

GRID, PATCH = (3, 4), 4


class Spotting(NamedTuple):
    """Noise with a patch of stripes somewhere, along or across: the class."""

    model: VisionTransformer
    images: Tensor
    labels: Tensor
    masks: Tensor


def draw(count: int, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = 0.3 * torch.randn(count, 1, GRID[0] * PATCH, GRID[1] * PATCH, generator=generator)
    labels = torch.randint(2, (count,), generator=generator)
    places = torch.randint(GRID[0] * GRID[1], (count,), generator=generator)
    masks = F.one_hot(places, GRID[0] * GRID[1]).view(count, *GRID).bool()
    masks = masks.repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
    along = torch.tensor([1.0, -1.0]).repeat(images.shape[3] // 2).expand(images.shape[2], -1)
    across = torch.tensor([1.0, -1.0]).repeat(images.shape[2] // 2)[:, None].expand(-1, images.shape[3])
    stripes = torch.stack([along, across])[labels]
    return images + (stripes * masks)[:, None], labels, masks


@pytest.fixture(scope="session")
def spotting() -> Spotting:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ModelConfig(
            image_size=(GRID[0] * PATCH, GRID[1] * PATCH),
            patch_size=(PATCH, PATCH),
            in_channels=1,
            num_classes=2,
            width=16,
            depth=2,
            num_heads=2,
            mlp_width=32,
            init_std=0.1,
        )
        model = VisionTransformer(config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        images, labels, _ = draw(2048, seed=1)
        for step in range(100):
            batch = slice(step * 64 % 2048, step * 64 % 2048 + 64)
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            optimizer.zero_grad()
    images, labels, masks = draw(48, seed=2)
    model.eval()
    assert (model(images).argmax(dim=1) == labels).float().mean() > 0.95
    return Spotting(model, images, labels, masks)
