"""The training loop of timm's train script, written with timm's parts, because the script is not in timm's package.

Part of benchmarks/training_throughput.py.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from timm.data import FastCollateMixup, create_dataset, create_loader
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.utils import dispatch_clip_grad
from torch import nn

from vitcli.core.config import TrainConfig
from vitcli.data.loader import Batch
from vitcli.engine.autocast import Precision


def file_batches(
    folder: Path, config: TrainConfig, *, size: int, classes: int, workers: int, device: torch.device
) -> Iterable[Batch]:
    """Load files in processes that decode, augment and mix into pinned memory; prefetched, normalised on the device."""
    augment = config.augment
    mix = FastCollateMixup(
        mixup_alpha=augment.mixup,
        cutmix_alpha=augment.cutmix,
        label_smoothing=config.optim.label_smoothing,
        num_classes=classes,
    )
    loader: Iterable[Batch] = create_loader(
        create_dataset("", root=str(folder), split="train", is_training=True),
        input_size=(3, size, size),
        batch_size=config.optim.batch_size,
        is_training=True,
        scale=(augment.crop_scale, 1.0),
        ratio=augment.crop_ratio,
        hflip=augment.flip,
        color_jitter=augment.brightness,
        interpolation="random",
        collate_fn=mix,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        device=device,
    )
    return loader


def training(
    model: nn.Module,
    epoch: Callable[[], Iterable[Batch]],
    config: TrainConfig,
    *,
    precision: Precision,
    channels_last: bool,
    torchcompile: bool,
) -> Callable[[], None]:
    """Return a function that trains for an epoch with timm.

    Args:
        model: the model, on its device.
        epoch: a function that returns the batches; with MixUp or CutMix they have soft targets, (B, K).
        config: the settings of both libraries.
        precision: the precision, separate from ours because it has a scaler.
        channels_last: store images and weights in this memory format.
        torchcompile: compile the model.
    """
    optim = config.optim
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model.to(memory_format=layout)
    rates = {"lr": optim.lr, "weight_decay": optim.weight_decay}
    optimizer = create_optimizer_v2(model, opt=optim.optimizer, fused=True, **rates)
    mixes = config.augment.mixup or config.augment.cutmix
    criterion = SoftTargetCrossEntropy() if mixes else LabelSmoothingCrossEntropy(optim.label_smoothing)
    forward = torch.compile(model) if torchcompile else model

    def train() -> None:
        model.train()
        for images, targets in epoch():
            with fast_kernels():
                with precision.autocast():
                    loss = criterion(forward(images.contiguous(memory_format=layout)), targets)
                precision.scaler.scale(loss).backward()
            precision.scaler.unscale_(optimizer)
            dispatch_clip_grad(model.parameters(), value=optim.clip_grad)
            precision.scaler.step(optimizer)
            precision.scaler.update()
            optimizer.zero_grad()

    return train


@contextmanager
def fast_kernels() -> Iterator[None]:
    """Use TF32 and cuDNN's fastest convolutions in this block; the script switches them on for its whole process."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.fp32_precision, cudnn.benchmark
    matmul.fp32_precision, cudnn.benchmark = "tf32", True
    yield
    matmul.fp32_precision, cudnn.benchmark = before
