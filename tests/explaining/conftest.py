"""A small model that looks at one patch, and images of which it is known which one."""

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
    images, labels, masks = draw(48, seed=2)
    model = spotting_model()
    margins = model(images).detach() @ torch.tensor([1.0, -1.0])
    assert torch.equal(margins < 0, labels.bool())
    assert margins.abs().min() > 1
    return Spotting(model, images, labels, masks)


def spotting_model() -> VisionTransformer:
    """Weights made by hand, so that every processor computes the same answers.

    The class token of the last block attends to the patch with stripes, reads their direction from it, and the head
    turns that into a class. All other weights are small and random, as methods have to cope with.
    """
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VisionTransformer(config).requires_grad_(False)
    stripes = torch.tensor([1.0, -1.0]).repeat(PATCH // 2)
    along, across = stripes.expand(PATCH, -1), stripes[:, None].expand(-1, PATCH)
    embedding, attention, head = model.patch_embedding.projection, model.blocks[1].attention, model.head[1]
    # Features 0 to 3: along, across and their negatives, so that the norm does not shift them; 4 and 5 tell the class
    # token from patches, and keep the norm from magnifying noise.
    embedding.weight[:4, 0] = torch.stack([along, across, -along, -across]) / PATCH**2
    embedding.bias[4:6] = torch.tensor([-2.0, 2.0])
    model.class_token[..., 4:6] = torch.tensor([2.0, -2.0])
    queries, keys, values = attention.qkv.weight.view(3, config.num_heads, -1, config.width)  # (heads, D/H, D) each
    queries[:, 0, 4:6] = torch.tensor([2.0, -2.0])
    keys[:, 0, :4] = torch.tensor([3.0, 3.0, -3.0, -3.0])
    values[:, 0, :4] = torch.tensor([1.0, -1.0, -1.0, 1.0])
    attention.projection.weight[8] = attention.projection.weight[9] = 0
    attention.projection.weight[8, :: config.width // config.num_heads] = 1.0
    attention.projection.weight[9, :: config.width // config.num_heads] = -1.0
    head.weight[:, 8:10] = torch.tensor([[2.0, -2.0], [-2.0, 2.0]])
    return model.requires_grad_(True).eval()
