"""A small trainer, its batches and its savers, and a device of little memory."""

import math
from contextlib import contextmanager

import torch

from vitcli.core.errors import Interrupted
from vitcli.core.interrupts import StopRequest
from vitcli.core.model_config import ModelConfig
from vitcli.core.optim_config import OptimConfig
from vitcli.engine import trainer as trainer_module
from vitcli.engine.autocast import Precision
from vitcli.engine.distributed import Processes
from vitcli.engine.evaluate import predict_logits, score
from vitcli.engine.mixing import Mixing
from vitcli.engine.state import copied, judged_weights, save_state
from vitcli.engine.trainer import Trainer
from vitcli.models.layers import ConvPatchEmbedding
from vitcli.models.vit import VisionTransformer

CPU = torch.device("cpu")
FLOAT32 = Precision(CPU, amp="off", dtype="bfloat16")
SIZE, BATCH, EPOCHS = 10, 4, 2
TIMINGS = {"seconds", "data_seconds", "images_per_second", "data_share", "peak_memory"}
OPTIMIZERS = {
    "muon": {"lr": 0.02, "adamw_lr": 0.01},
    "adamw": {"lr": 0.01},
    "adam": {"lr": 0.01},
    "sgd": {"lr": 0.1},
    "schedule-free": {"lr": 0.01, "schedule": "constant", "ema": False},
}


def build_model(seed=0, **changes):
    fields = {"image_size": (8, 8), "patch_size": (4, 4), "in_channels": 1, "num_classes": 4}
    fields |= {"width": 16, "depth": 2, "num_heads": 2, "mlp_width": 32, "init_std": 0.1}
    torch.manual_seed(seed)
    return VisionTransformer(ModelConfig(**{**fields, **changes}))


class Batches:
    """Noise with a bright quarter that tells the class, in an order that only the epoch decides."""

    def __init__(self, size=16, batch_size=8):
        generator = torch.Generator().manual_seed(7)
        self.labels = torch.arange(size) % 4
        self.images = torch.randn(size, 1, 8, 8, generator=generator)
        for image, label in zip(self.images, self.labels.tolist(), strict=True):
            image[0].view(2, 4, 2, 4)[label // 2, :, label % 2] += 2
        self.batch_size = batch_size

    @property
    def num_images(self):
        return len(self.labels)

    def __len__(self):
        return math.ceil(self.num_images / self.batch_size)

    def __iter__(self):
        return zip(self.images.split(self.batch_size), self.labels.split(self.batch_size), strict=True)

    def epoch(self, number, *, start=0):
        order = torch.randperm(self.num_images, generator=torch.Generator().manual_seed(number))
        for indices in order.split(self.batch_size)[start:]:
            yield self.images[indices], self.labels[indices]


class Kept:
    """A saver that remembers what it was given, by value."""

    def __init__(self):
        self.epochs = []
        self.weights = []
        self.steps = []

    def save_epoch(self, state):
        self.epochs.append([record["epoch"] for record in state["records"]])
        self.weights.append(copied(judged_weights(state)))

    def save_step(self, state):
        self.steps.append((state["epoch"], state["step"]))
        self.weights.append(copied(judged_weights(state)))


def build_trainer(
    model=None,
    *,
    train=None,
    val=None,
    seed=0,
    mixing=None,
    stop=None,
    events=None,
    class_weights=None,
    precision=None,
    val_precision=None,
    forward=None,
    log_steps=0,
    distillation=None,
    growth=None,
    **settings,
):
    train = train or Batches()
    config = {"epochs": 2, "optimizer": "adamw", "schedule": "constant", "warmup_epochs": 0, **settings}
    return Trainer(
        model or build_model(),
        train=train,
        val=train if val is None else val,
        config=OptimConfig(**config),
        mixing=mixing or Mixing(mixup=0, cutmix=0, seed=0),
        precision=precision or Precision(CPU, amp="off", dtype="bfloat16"),  # of its own: its scaler has a state
        log_steps=log_steps,
        saver=Kept(),
        emit=(lambda event: None) if events is None else events.append,
        stop=StopRequest() if stop is None else stop,
        seed=seed,
        class_weights=class_weights,
        val_precision=val_precision,
        forward=forward,
        distillation=distillation,
        growth=growth,
    )


def script_validation(monkeypatch, outcomes):
    """Validation that gives (right answers of 4, margin between the two logits) epoch by epoch."""
    script = iter(outcomes)

    def scripted(*_arguments, **_options):
        right, margin = next(script)
        signs = torch.tensor([1.0] * right + [-1.0] * (4 - right))
        return torch.stack([signs * margin, torch.zeros(4)], dim=1), torch.zeros(4, dtype=torch.int64)

    monkeypatch.setattr(trainer_module, "predict_logits", scripted)


class Disk:
    """A saver that ends the training after a state, which it writes; of the others, it remembers their places."""

    def __init__(self, folder, stop_after=None):
        self.path, self.before = folder / "state.safetensors", folder / "before.safetensors"
        self.places, self.stop_after = [], stop_after

    def save_step(self, state):
        self.places.append((state["epoch"], state["step"]))
        if self.places[-1] == self.stop_after:
            save_state(self.path, copied(state), before=self.before)
            raise Interrupted("enough", exit_code=130)

    save_epoch = save_step


def trainer_in(folder, *, stop_after=None, **settings):
    """A trainer with everything random that there is, which saves after every step."""
    options = {"epochs": EPOCHS, "schedule": "cosine", "ema": True, "ema_decay": 0.9, "clip_grad": 1.0, **settings}
    trainer = build_trainer(
        build_model(dropout=0.2, drop_path=0.3, head_dropout=0.1),
        train=Batches(size=SIZE, batch_size=BATCH),
        mixing=Mixing(mixup=0.8, cutmix=1.0, seed=5),
        seed=5,
        **options,
    )
    folder.mkdir(exist_ok=True)
    trainer.save_steps, trainer._saver = 1, Disk(folder, stop_after)
    return trainer


def without_timings(state):
    """A state as plain values, which are equal only where every bit is."""
    if isinstance(state, dict):
        return {name: without_timings(value) for name, value in state.items() if name not in TIMINGS}
    if isinstance(state, list):
        return [without_timings(value) for value in state]
    return (state.dtype, state.tolist()) if isinstance(state, torch.Tensor) else state


class Weights:
    """A saver that remembers the weights themselves, beside those that are judged."""

    def __init__(self):
        self.plain, self.judged, self.steps = [], [], []

    def save_epoch(self, state):
        self.plain.append(copied(state["model"]))
        self.judged.append(copied(judged_weights(state)))

    def save_step(self, state):
        self.steps.append(copied(judged_weights(state)))


def score_of(weights, trainer):
    model = build_model()
    model.load_state_dict(weights)
    return score(*predict_logits(model, trainer.val, trainer.precision), Processes())


def equal(these, those):
    return these.keys() == those.keys() and all(torch.equal(these[name], those[name]) for name in these)


@contextmanager
def device_of(images, *, layer=ConvPatchEmbedding, after=0, judging=True):
    """A device that has memory for so many images: a layer that is given more of them fails as on a GPU.

    After so many passes of that layer the memory is gone; before, there is enough of it. Without ``judging``, there is
    enough for what needs no gradients. As on a GPU, no cores share the images.
    """
    passes, threads = 0, torch.get_num_threads()
    torch.set_num_threads(1)

    def allocate(module, given):
        nonlocal passes
        if not isinstance(module, layer) or not (judging or torch.is_grad_enabled()):
            return
        passes += 1
        if passes > after and len(given[0]) > images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    hook = torch.nn.modules.module.register_module_forward_pre_hook(allocate)
    try:
        yield
    finally:
        hook.remove()
        torch.set_num_threads(threads)
