"""A training that one process or two take, and what two processes found."""

import faulthandler
import os
import socket
from functools import partial

import pytest
import torch
from torch import nn

from tests.builders.trainers import Kept, build_model
from vitcli.core.augment_config import AugmentConfig
from vitcli.core.interrupts import StopRequest
from vitcli.core.optim_config import OptimConfig
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data.augment import TrainTransform
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.engine.autocast import Precision
from vitcli.engine.distributed import joined
from vitcli.engine.mixing import Mixing
from vitcli.engine.trainer import Trainer
from vitcli.models.finetune import HeadOnly, add_low_rank, train_only

CPU = torch.device("cpu")


SIZE, BATCH, CLASSES = 21, 8, 4
"""The last batch has five images, and the last part of it one or none."""


EVERYTHING = AugmentConfig(
    crop_padding=1,
    flip=0.5,
    rotate=20,
    policy="trivial",
    brightness=0.3,
    saturation=0.3,
    grey=0.2,
    erase=0.7,
)


class WithUnused(nn.Module):
    """Some of its parameters have no say."""

    def __init__(self, model):
        super().__init__()
        self.model, self.unused = model, nn.Linear(3, 3)
        self.no_decay, self.layer_of, self.is_head = model.no_decay, lambda name: 0, lambda name: False

    def forward(self, images):
        return self.model(images)


class HeadOnImages(HeadOnly):
    """A head that is trained on features computed in every step."""

    def __init__(self, model):
        super().__init__(model)
        self._features = model.features

    def forward(self, images):
        return super().forward(self._features(images))


def batches(place, *, augment=None, size=SIZE, balanced=False, val=False, dtype=torch.float64):
    generator = torch.Generator().manual_seed(7)
    images = torch.randint(256, (size, 3, 8, 8), generator=generator, dtype=torch.uint8)
    to_input = InputTransform(
        Preprocessing(
            geometry=Geometry(size=(8, 8), channels=3, resize="squash"), image_size=(8, 8), mean=(0.5,), std=(0.5,)
        ),
        CPU,
    )
    change = to_input if val else TrainTransform(augment or AugmentConfig(), to_input)
    return Batches(
        images,
        torch.arange(size) % CLASSES,
        batch_size=3 if val else BATCH,
        transform=lambda *batch: change(*batch).to(dtype),
        device=CPU,
        seed=3,
        balanced=balanced,
        place=place,
    )


def build_trainer(
    processes,
    *,
    part="",
    augment=None,
    size=SIZE,
    balanced=False,
    mixup=0.0,
    cutmix=0.0,
    class_weights=None,
    stop=None,
    epochs=2,
    shard=False,
    precision=None,
    dtype=torch.float64,
    val_size=SIZE,
    **settings,
):
    place = processes.place
    model = build_model(in_channels=3, num_classes=CLASSES).to(dtype)
    forward = None
    if part == "lora":
        add_low_rank(model.float(), 2)
    elif part == "norm":
        train_only(model, "norm")
    elif part == "head-only":
        train_only(model, "head")
        model = HeadOnImages(model)
    elif part == "checkpointed":
        model.grad_checkpointing = True
    elif part == "unused":
        model = WithUnused(model)
    elif part == "called":
        forward = partial(type(model).forward, model)
    settings = {"optimizer": "adamw", "lr": 0.01, "schedule": "cosine", "warmup_epochs": 1, **settings}
    return Trainer(
        model.to(dtype),
        train=batches(place, augment=augment, size=size, balanced=balanced, dtype=dtype),
        val=batches(place, val=True, size=val_size, dtype=dtype),
        config=OptimConfig(epochs=epochs, batch_size=BATCH, clip_grad=1.0, **settings),
        mixing=Mixing(mixup=mixup, cutmix=cutmix, seed=5),
        precision=precision or Precision(CPU, amp="off", dtype="bfloat16"),
        saver=Kept(),
        emit=lambda event: None,
        stop=processes.agreed(StopRequest() if stop is None else stop),
        seed=0,
        class_weights=None if class_weights is None else torch.tensor(class_weights, dtype=torch.float64),
        forward=forward,
        processes=processes,
        shard=shard,
    )


def one_of_two(rank, port, folder, tasks):
    """A process that does its tasks, and leaves what it found."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1"
    )
    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(100, exit=True)
    with joined() as processes:
        found = {name: task(processes) for name, task in tasks.items()}
    torch.save(found, folder / f"{rank}.pt")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def found_by_two(context, folder, tasks):
    """What two processes found, by rank."""
    port = free_port()
    processes = [context.Process(target=one_of_two, args=(rank, port, folder, tasks)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in (0, 1)]


def tensors_of(state, above=""):
    for name, value in state.items():
        if isinstance(value, dict):
            yield from tensors_of(value, f"{above}{name}.")
        elif isinstance(value, torch.Tensor):
            yield f"{above}{name}", value


def assert_alike(one, two):
    expected, found = dict(tensors_of(one)), dict(tensors_of(two))
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-9, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}"
        )
    for ours, theirs in zip(one["records"], two["records"], strict=True):
        for name in (
            "train_loss",
            "train_accuracy",
            "val_loss",
            "val_accuracy",
            "learning_rate",
            "is_best",
            "grad_norm",
        ):
            assert theirs[name] == pytest.approx(ours[name], rel=1e-9), name
