"""Trainers of small models on any device, with batches that are stored and changed there."""

import torch

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.errors import Interrupted
from vitcli.core.events import ignore
from vitcli.core.interrupts import StopRequest
from vitcli.core.model_config import ModelConfig
from vitcli.core.optim_config import OptimConfig
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data.augment import TrainTransform
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.engine.autocast import Precision
from vitcli.engine.mixing import Mixing
from vitcli.engine.state import copied, save_state
from vitcli.engine.trainer import Trainer
from vitcli.models.vit import VisionTransformer

CLASSES, SIZE, BATCH = 4, 37, 8
"""The last batch is smaller."""
CROPS = AugmentConfig(crop_padding=2, flip=0.5, vertical_flip=0.2)
EVERYTHING = AugmentConfig(
    crop_scale=0.3,
    flip=0.5,
    vertical_flip=0.5,
    policy="rand",
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grey=0.2,
    erase=0.5,
)
TURNS = AugmentConfig(crop_padding=2, flip=0.5, rotate=20, zoom=0.2, shear=10, policy="trivial", erase=0.5)


class Stops:
    """A saver that keeps the state in a file, and ends the training after some steps."""

    def __init__(self, path, stop_after=None):
        self.path, self.stop_after = path, stop_after

    def save_step(self, state):
        save_state(self.path, copied(state), before=self.path.with_suffix(".before"))
        if (state["epoch"], state["step"]) == self.stop_after:
            raise Interrupted("enough", exit_code=130)

    save_epoch = save_step


def build_model(device, **changes):
    fields = {"image_size": (8, 8), "patch_size": (4, 4), "num_classes": CLASSES, "init_std": 0.2}
    fields |= {"width": 32, "depth": 2, "num_heads": 2, "mlp_width": 64}
    fields |= {"qkv_bias": False}  # softmax cancels the bias of keys: Adam would magnify rounding errors
    torch.manual_seed(0)
    return VisionTransformer(ModelConfig(**{**fields, **changes})).to(device)


def input_transform(device, size=(8, 8)):
    geometry = Geometry(size=size, channels=3, resize="squash")
    mean, std = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)
    return InputTransform(Preprocessing(geometry=geometry, image_size=size, mean=mean, std=std), device)


def noise(*shape):
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def build_batches(device, *, augment=None, size=SIZE, batch_size=BATCH):
    to_input = input_transform(device)
    return Batches(
        noise(size, 3, 8, 8),
        torch.arange(size) % CLASSES,
        batch_size=batch_size,
        transform=TrainTransform(augment, to_input) if augment else to_input,
        device=device,
        seed=3,
    )


def build_trainer(
    device,
    *,
    model=None,
    augment=CROPS,
    mix=0.0,
    precision=None,
    forward=None,
    saver=None,
    emit=ignore,
    shard=False,
    size=SIZE,
    batch_size=BATCH,
    **settings,
):
    settings = {"epochs": 2, "optimizer": "adamw", "schedule": "constant", "warmup_epochs": 0, **settings}
    return Trainer(
        model or build_model(device),
        train=build_batches(device, augment=augment, size=size, batch_size=batch_size),
        val=build_batches(device, size=8),
        config=OptimConfig(batch_size=batch_size, **settings),
        mixing=Mixing(mixup=mix, cutmix=mix, seed=5),
        precision=precision or Precision(device, amp="off", dtype="bfloat16"),
        saver=saver or type("Nowhere", (), {"save_epoch": lambda *_: None, "save_step": lambda *_: None})(),
        emit=emit,
        stop=StopRequest(),
        seed=5,
        save_steps=1 if saver else 0,
        forward=forward,
        shard=shard,
    )
