"""Loss curves of every reference architecture that any refactor has to reproduce.

Where a change is meant to change them, ``VIT_NEW_GOLDEN=1 pytest tests/engine/test_golden.py`` writes them again, and the
commit says why. They are computed on a CPU in float32, from what is drawn alike everywhere: uniform numbers of torch's
generator, and NumPy's. Dropout is off, for torch draws it in another way where it was built without MKL, and so is Muon,
which computes in bfloat16 where a processor can.
"""

import json
import os
from pathlib import Path

import pytest
import torch

from tests.builders.trainers import build_trainer
from vitcli.core.model_config import ModelChoice
from vitcli.engine.distillation import Distillation
from vitcli.engine.mixing import Mixing
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer

GOLDEN = Path(__file__).parents[1] / "golden"
STEPS = 10
CLASSES = 5
TOLERANCE = 1e-4
"""Relative. Noise of 1e-6 in all weights, ten times what float32 rounds off, changes them by 7e-6 at the most, and mostly
by less than 3e-7; one more epoch of warm-up, another beta or no clipping by more than this."""

ALIKE = {"dropout": 0.0, "embedding_dropout": None, "attention_dropout": 0.0, "head_dropout": 0.0}
ALIKE |= {"init": "normal", "embedding_init": "normal"}  # how weights begin is the subject of other tests
NARROW = {"width": 96, "mlp_width": 192}
ARCHITECTURES = {
    "vit-nano-patch4": ((16, 16), 1, {}),
    "vit-tiny-patch16": ((64, 48), 3, {"depth": 2, **NARROW}),
    "vit-cassava-classic": ((32, 32), 3, {"depth": 2, **NARROW}),
    "vit-cifar10-classic": ((16, 16), 3, {}),
    "vit-mnist-classic": ((14, 14), 1, {"depth": 2, "mlp_width": 256}),
    "vit-butterflies-classic": ((32, 32), 3, {"depth": 2, "head_width": 64, **NARROW}),
    "deit": ((32, 32), 3, {"name": "vit-tiny-patch16", "depth": 2, "distillation": "head", **NARROW}),
    "dinov2": (
        (28, 28),
        3,
        {"name": "vit-small-patch14", "depth": 2, "num_registers": 4, "layer_scale": 0.1, **NARROW},
    ),
    "simple-vit": (
        (32, 32),
        3,
        {
            "name": "vit-tiny-patch8",
            "depth": 2,
            "class_token": False,
            "pooling": "patches",
            "positions": "sincos",
            **NARROW,
        },
    ),
}


class OneBatch:
    """Uniform noise, brighter by class, in one batch per epoch, so that every record is of one step."""

    num_images = batch_size = 12

    def __init__(self, channels, size):
        draws = torch.Generator().manual_seed(3)
        self.labels = torch.arange(self.num_images) % CLASSES
        self.images = (
            torch.rand(self.num_images, channels, *size, generator=draws) + self.labels[:, None, None, None] / 4
        )

    def __len__(self):
        return 1

    def __iter__(self):
        yield self.images, self.labels

    def epoch(self, number, *, start=0):  # noqa: ARG002
        order = torch.arange(self.num_images).roll(number)
        yield self.images[order], self.labels[order]


def loss_curve(name, *, noise=0.0, **settings):
    """Training loss of every step; the last ones of validation, by plain weights and by their average."""
    size, channels, changes = ARCHITECTURES[name]
    changes = {"image_size": size, **ALIKE, **changes}
    choice = ModelChoice(name=changes.pop("name", name), changes=changes)
    torch.manual_seed(0)
    model = VisionTransformer(model_config(choice, image_size=size, in_channels=channels, num_classes=CLASSES))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + noise * (2 * torch.rand(parameter.shape) - 1))
    batches = OneBatch(channels, size)
    distillation = None
    if model.config.distillation == "head":
        model.heads_apart = True
        teacher = lambda images: images.mean(dim=(1, 2, 3))[:, None] * torch.arange(CLASSES)  # noqa: E731
        distillation = Distillation(teacher=teacher, kind="soft", alpha=0.5, temperature=2.0)
    recipe = {"optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.05, "schedule": "cosine", "warmup_epochs": 4}
    recipe |= {"label_smoothing": 0.1, "grad_accum_steps": 2, "layer_decay": 0.8, "ema": True, "ema_decay": 0.9}
    trainer = build_trainer(
        model,
        train=batches,
        mixing=Mixing(mixup=0.8, cutmix=1.0, seed=0),
        distillation=distillation,
        epochs=STEPS,
        **{**recipe, **settings},
    )
    records = trainer.fit()
    last = records[-1]
    return {
        "training": [record.train_loss for record in records],
        "validation": {"plain": last.plain_val_loss, "average": last.average_val_loss},
    }


def as_list(curve):
    return [*curve["training"], *curve["validation"].values()]


def recorded(name):
    return as_list(json.loads((GOLDEN / f"{name}.json").read_text()))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_losses_are_those_on_record(name):
    found = loss_curve(name)
    if os.environ.get("VIT_NEW_GOLDEN"):
        (GOLDEN / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    assert as_list(found) == pytest.approx(recorded(name), rel=TOLERANCE)


def test_every_curve_on_record_is_of_an_architecture():
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(ARCHITECTURES)


@pytest.mark.parametrize("name", ["vit-mnist-classic", "deit"])
def test_rounding_errors_are_far_within_the_tolerance(name):
    assert as_list(loss_curve(name, noise=1e-6)) == pytest.approx(recorded(name), rel=TOLERANCE / 10)


@pytest.mark.parametrize("settings", [{"clip_grad": 0.0}, {"betas": (0.9, 0.99)}, {"warmup_epochs": 3}], ids=str)
def test_another_recipe_has_another_curve(settings):
    assert as_list(loss_curve("vit-nano-patch4", **settings)) != pytest.approx(
        recorded("vit-nano-patch4"), rel=TOLERANCE
    )
