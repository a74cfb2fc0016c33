"""Recipes of published tutorials, against what their descriptions say, written in plain torch."""

import copy
from dataclasses import asdict, replace

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from tests.builders.timm_models import renamed
from tests.builders.trainers import build_trainer
from tests.builders.tutorials import NAMES, CassavaClassifier, CifarClassifier, EncoderClassifier
from vitcli.core.augment_config import AugmentConfig
from vitcli.core.config_files import configure, load_recipe
from vitcli.data.colour import random_colours
from vitcli.data.resample import random_resample
from vitcli.models.finetune import train_only
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer

NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0}
SMALL = {"width": 64, "depth": 2, "mlp_width": 128, "image_size": (64, 64)}
TUTORIALS = {
    "cassava": (
        CassavaClassifier,
        {**SMALL, "num_heads": 8},
        lambda weights: torch.optim.AdamW(weights, lr=1e-4, weight_decay=0.001),
        lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.1),
    ),
    "cifar10": (
        CifarClassifier,
        {"depth": 2},
        lambda weights: torch.optim.AdamW(weights, lr=1e-2, weight_decay=1e-2),
        lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1),
    ),
    "mnist": (
        EncoderClassifier,
        {"depth": 2},
        lambda weights: torch.optim.Adam(weights, lr=3e-4, weight_decay=1e-4),
        lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, 1),
    ),
}


def settings_of(recipe, **changes):
    """The recipe's configuration, and its model for images of the tutorial's size."""
    config = configure(load_recipe(f"{recipe}-classic"), {"model": changes})
    size, channels = {"mnist": ((28, 28), 1), "cifar10": ((32, 32), 3)}.get(recipe, ((64, 64), 3))
    return config, model_config(config.model, image_size=size, in_channels=channels, num_classes=10)


class OneBatch:
    """Noise, brighter by class, in one batch per epoch: each epoch is one step."""

    num_images = batch_size = 16

    def __init__(self, config):
        generator = torch.Generator().manual_seed(3)
        self.labels = torch.arange(self.num_images) % config.num_classes
        shape = (self.num_images, config.in_channels, *config.image_size)
        self.images = torch.rand(shape, generator=generator, dtype=torch.float64) + self.labels.view(-1, 1, 1, 1) / 10

    def __len__(self):
        return 1

    def __iter__(self):
        yield self.images, self.labels

    def epoch(self, number, *, start=0):  # noqa: ARG002
        order = torch.arange(self.num_images).roll(number)
        yield self.images[order], self.labels[order]


def train_ours(config, model, batches, steps):
    settings = asdict(replace(config.optim, epochs=steps))
    build_trainer(model, train=batches, **{**settings, "class_weights": None}).fit()


def train_theirs(model, batches, steps, optimizer, scheduler, loss=F.cross_entropy):
    for epoch in range(1, steps + 1):
        ((images, labels),) = batches.epoch(epoch)
        optimizer.zero_grad()
        loss(model(images), labels).backward()
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("name", TUTORIALS)
def test_steps_are_those_of_the_tutorial(name):
    """Model, loss, optimiser, decay and schedule, over an epoch more than the first drop of the rate."""
    build, changes, optimizer_of, scheduler_of = TUTORIALS[name]
    torch.manual_seed(0)
    config, architecture = settings_of(name, **changes, **NO_DROPOUT)
    ours, theirs = VisionTransformer(architecture).double(), build(architecture).double()
    ours.load_state_dict(renamed(theirs.state_dict(), *NAMES))
    batches = OneBatch(architecture)
    train_ours(config, ours, batches, steps=3)
    optimizer = optimizer_of(theirs.parameters())
    train_theirs(theirs, batches, 3, optimizer, scheduler_of(optimizer))
    for key, value in renamed(theirs.state_dict(), *NAMES).items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=0, atol=1e-9, msg=key)


def test_steps_of_the_butterflies_head_are_those_of_the_tutorial():
    torch.manual_seed(0)
    config, architecture = settings_of("butterflies", **SMALL, name="vit-tiny-patch16", num_heads=1, head_dropout=0.0)
    ours = VisionTransformer(architecture).double()
    frozen = copy.deepcopy(ours).eval().requires_grad_(requires_grad=False)
    head = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Dropout(0.0), nn.Linear(512, 10)).double()
    ours.head.load_state_dict(head.state_dict())
    train_only(ours, config.optim.train_only)
    batches = OneBatch(architecture)
    train_ours(config, ours, batches, steps=5)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-3)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3, 0.97)
    train_theirs(lambda images: head(frozen.features(images)), batches, 5, optimizer, scheduler, loss)
    for key, value in head.state_dict().items():
        torch.testing.assert_close(ours.head.state_dict()[key], value, rtol=0, atol=1e-9, msg=key)
    assert all(
        torch.equal(value, frozen.state_dict()[key]) for key, value in ours.state_dict().items() if "head" not in key
    )


@pytest.mark.parametrize("name", ["cassava", "mnist"])
def test_weights_begin_as_in_the_tutorial(name):
    build, changes, *_ = TUTORIALS[name]
    torch.manual_seed(0)
    _, architecture = settings_of(name, **changes)
    ours = VisionTransformer(architecture).state_dict()
    for key, theirs in renamed(build(architecture).state_dict(), *NAMES).items():
        mine = ours[key]
        if theirs.unique().numel() == 1 or theirs.numel() < 30:
            torch.testing.assert_close(mine.mean(), theirs.mean(), atol=0.2, rtol=0)
            assert (mine.std() == 0) == (theirs.std() == 0), key
        else:
            assert stats.ks_2samp(mine.flatten(), theirs.flatten()).pvalue > 1e-3, key
    copies = [torch.equal(ours["blocks.0.mlp.fc1.weight"], ours["blocks.1.mlp.fc1.weight"])]
    assert copies == [name == "mnist"], "torch's encoder copies one layer"


def test_the_butterflies_head_begins_as_torchs_linear_layers():
    torch.manual_seed(0)
    _, architecture = settings_of("butterflies", **SMALL, name="vit-tiny-patch16", num_heads=1)
    for mine, theirs in zip(
        VisionTransformer(architecture).head[::3], (nn.Linear(64, 512), nn.Linear(512, 10)), strict=True
    ):
        assert stats.ks_2samp(mine.weight.detach().flatten(), theirs.weight.detach().flatten()).pvalue > 1e-3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cassava", {}),
        ("cifar10", {}),
        ("mnist", {"attention": 0.1, "block": 0.1, "mlp": 0.1}),
        ("butterflies", {"head": 0.3}),
    ],
)
def test_dropout_is_where_the_tutorial_has_it(name, expected):
    _, architecture = settings_of(name)
    model = VisionTransformer(
        replace(architecture, image_size=(64, 64), depth=2) if name == "cassava" else architecture
    )
    block = model.blocks[0]
    found = {
        "embedding": model.dropout.p,
        "attention": block.attention.attention_dropout,
        "block": block.attention.dropout.p,
        "mlp": block.mlp.dropout.p,
        "head": architecture.head_dropout,
    }
    assert {place: rate for place, rate in found.items() if rate} == expected


# Cassava's augmentation


@pytest.fixture
def cassava() -> AugmentConfig:
    return settings_of("cassava")[0].augment


def test_brightness_adds_white_and_contrast_multiplies(cassava):
    images = torch.tensor([20, 100, 250], dtype=torch.uint8).view(1, 1, 1, 3).expand(4000, 3, 1, 3)
    change = random_colours(4000, replace(cassava, colour_probability=1.0), torch.Generator().manual_seed(0))
    values, gain, offset = change(images, slice(0, 4000))
    dark, middle, light = (gain * values + offset)[:, 0, 0].T
    generator = torch.Generator().manual_seed(1)
    factor, white = 1 + 0.2 * (2 * torch.rand(2, 4000, generator=generator) - 1)
    white = 255 * (white - 1)
    for mine, pixel in ((dark, 20), (middle, 100), (light, 250)):
        theirs = (pixel * factor + white).clamp(0, 255)
        assert stats.ks_2samp(mine, theirs).pvalue > 1e-3
        assert mine.min() >= -0.01
        assert mine.max() <= 255.01


def test_half_of_the_images_keep_their_colours(cassava):
    change = random_colours(2000, cassava, torch.Generator().manual_seed(0))
    values, gain, offset = change(torch.full((2000, 3, 1, 1), 100, dtype=torch.uint8), slice(0, 2000))
    kept = ((gain * values + offset)[:, 0, 0, 0] == 100).float().mean()
    assert 0.45 < kept < 0.55


def test_crops_are_reflected_at_their_own_edges(cassava):
    """A photo of its own positions, turned and shifted: each pixel shows a position within the crop, and no black."""
    config = replace(cassava, crop_scale=1.0, affine_probability=1.0)
    y, x = torch.meshgrid(torch.arange(48.0) + 0.5, torch.arange(64.0) + 0.5, indexing="ij")
    change = random_resample(torch.ones(200), (48, 64), (48, 64), config, torch.Generator().manual_seed(0))
    result = change(torch.stack([x, y]).expand(200, -1, -1, -1), slice(0, 200))
    assert result[:, 0].min() >= 0.5
    assert result[:, 0].max() <= 63.5
    assert result[:, 1].min() >= 0.5
    assert result[:, 1].max() <= 47.5
    black = replace(config, border="black")
    change = random_resample(torch.ones(200), (48, 64), (48, 64), black, torch.Generator().manual_seed(0))
    inside = change(torch.ones(200, 2, 48, 64), slice(0, 200)) == 1  # nothing of the outside is blended in
    plain = change(torch.stack([x, y]).expand(200, -1, -1, -1), slice(0, 200))
    torch.testing.assert_close(result[inside], plain[inside])


def test_zoom_is_uniform_from_0_9_to_1_1(cassava):
    config = AugmentConfig(zoom=cassava.zoom, zoom_law=cassava.zoom_law)
    x = (torch.arange(64.0) + 0.5).expand(3000, 1, 64, 64)
    change = random_resample(torch.ones(3000), (64, 64), (64, 64), config, torch.Generator().manual_seed(0))
    result = change(x, slice(0, 3000))[:, 0, 32]
    zoom = 20 / (result[:, 42] - result[:, 22])
    assert stats.kstest(zoom, stats.uniform(0.9, 0.2).cdf).pvalue > 1e-3
