"""Images per second in training, ``vit train`` against timm's train script, and how busy both keep the GPU.

    uv run python benchmarks/training_throughput.py
    uv run python benchmarks/training_throughput.py --model deit-tiny --source cached --torchcompile

The figures are meant for a GPU; on a CPU a few small steps show that everything runs. DeiT-tiny at 224 pixels and the 119k
CIFAR model at 32, each in both libraries with as many weights, the same batch, AdamW, clipped gradients, label smoothing,
and the precision that ``vit train --amp auto`` chooses here. Images come from two sources:

synthetic: one random batch that is on the device, over and over: the step alone, without augmentation and mixing.
cached: JPEG files (links to a few different ones, so that reading them costs little), random resized crops, flips,
    brightness, contrast and saturation as timm's script has them by default, and DeiT's MixUp and CutMix. Ours are decoded
    before the clock starts, as before every epoch but the first, at the least size that covers the model's; bytes lie on
    the GPU if there is room, and change there. timm decodes, changes and mixes them in ``--workers`` processes, into pinned
    memory, and prefetches.

Ours is the trainer, compiled if ``vit train`` would for 300 epochs of ImageNet or CIFAR-10. timm's script is not in its
package; its loop is written here with its parts. It allows TF32 and looks at every step's loss, as the script does;
``--torchcompile`` and ``--channels-last`` are the script's own. The clock starts when as many steps are done as there are
workers, and ends when the device has done the last one. Rounds alternate; the ratio of medians is printed (above 1: ours
is faster).
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import timm_script
import torch
from first_pass import draw_photo
from step_timing import TimedBatches, Utilisation

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.config import DataConfig, OptimConfig, TrainConfig
from vitcli.core.events import ignore
from vitcli.core.interrupts import StopRequest
from vitcli.core.model_config import ModelChoice
from vitcli.data.dataset import open_dataset
from vitcli.data.loader import Batch
from vitcli.data.splits import plan_splits
from vitcli.data.store import data_dir
from vitcli.engine.device import Precision, choose_device, describe
from vitcli.engine.hardware import hardware
from vitcli.engine.mixing import Mixing
from vitcli.engine.trainer import Trainer
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer
from vitcli.workflows.precision import Computing, choose_computing
from vitcli.workflows.saving import NoSaver
from vitcli.workflows.trainers import image_batches
from vitcli.workflows.training_data import prepare_training_data

CLASSES, EPOCHS = 10, 300
OPTIM = OptimConfig(
    epochs=1,
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.05,
    schedule="constant",
    warmup_epochs=0,
    label_smoothing=0.1,
    clip_grad=1.0,
)
AUGMENT = AugmentConfig(crop_scale=0.08, flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, mixup=0.8, cutmix=1.0)
Epoch = Callable[[int], Iterable[Batch]]
"""From its number to its batches."""


class Source(NamedTuple):
    """Where both take their images from."""

    ours: Epoch
    theirs: Epoch
    val: Iterable[Batch]


@dataclass(frozen=True, kw_only=True)
class Case:
    """The same model in both libraries."""

    title: str
    ours: str
    theirs: str
    changes: Mapping[str, Any]
    """What makes timm's as large as ours."""
    size: int
    file_size: tuple[int, int]
    """Width and height of the files' images."""
    num_images: int
    """Of the data set that it is usually trained on."""
    on_gpu: tuple[int, int]
    """Images in a batch, and steps that are timed."""
    on_cpu: tuple[int, int]
    wanted: float


CASES = {
    "deit-tiny": Case(
        title="DeiT-tiny at 224",
        ours="vit-tiny-patch16",
        theirs="deit_tiny_patch16_224",
        changes={},
        size=224,
        file_size=(500, 375),
        num_images=1_281_167,
        on_gpu=(256, 64),
        on_cpu=(4, 4),
        wanted=1.3,
    ),
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
        on_gpu=(512, 200),
        on_cpu=(64, 8),
        wanted=5,
    ),
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What was measured of both, and how it was computed."""

    computing: Computing
    ours: TimedBatches
    theirs: TimedBatches


def our_training(
    model: VisionTransformer,
    batches: TimedBatches,
    val: Iterable[Batch],
    *,
    config: TrainConfig,
    computing: Computing,
) -> Callable[[], None]:
    """A function that trains for an epoch."""
    trainer = Trainer(
        model,
        train=batches,
        val=val,
        config=replace(config.optim, grad_accum_steps=computing.parts),
        mixing=Mixing(mixup=config.augment.mixup, cutmix=config.augment.cutmix, seed=0),
        precision=computing.training,
        saver=NoSaver(),
        emit=ignore,
        stop=StopRequest(),
        seed=0,
        val_precision=computing.inference,
        forward=computing.forward,
    )

    def epoch() -> None:
        trainer.epoch, trainer.records = 1, []
        trainer.fit()

    return epoch


def synthetic(case: Case, config: TrainConfig, device: torch.device, *, steps: int) -> Source:
    """One batch for all steps."""
    batch = config.optim.batch_size
    images = torch.randn(batch, 3, case.size, case.size, device=device)
    labels = torch.randint(CLASSES, (batch,), device=device)

    def epoch(_number: int) -> Iterable[Batch]:
        return repeat((images, labels), steps)

    return Source(ours=epoch, theirs=epoch, val=[(images[:2], labels[:2])])


def cached(case: Case, config: TrainConfig, device: torch.device, *, workers: int) -> Source:
    """Images of files: ours decoded once, timm's in every epoch."""
    dataset = open_dataset(config.data, directory=data_dir())
    plan = plan_splits(dataset, config.data, seed=0)
    data = prepare_training_data(dataset, plan, config, (case.size, case.size), emit=ignore)
    train, val = image_batches(data, config, device)
    files = timm_script.file_batches(
        Path(config.data.name), config, size=case.size, classes=CLASSES, workers=workers, device=device
    )
    return Source(ours=train.epoch, theirs=lambda _number: files, val=val)


def draw_files(folder: Path, case: Case, *, images: int, different: int) -> None:
    """A data set for training in a folder per class, and an image of each class for validation."""
    random = np.random.default_rng(0)
    drawn = folder.with_name(f"{folder.name}-drawn")
    for place in (drawn, *(folder / split / str(label) for split in ("train", "val") for label in range(CLASSES))):
        place.mkdir(parents=True)
    originals = [drawn / f"{number}.jpg" for number in range(min(different, images))]
    for original in originals:
        draw_photo(random, case.file_size).save(original, quality=90)
    for split, count in (("train", images), ("val", CLASSES)):
        for number in range(count):
            link = folder / split / str(number % CLASSES) / f"{number}.jpg"
            link.hardlink_to(originals[number % len(originals)])


def compare(case: Case, source_name: str, folder: Path, device: torch.device, options: argparse.Namespace) -> Pair:
    """Train one model in both libraries, in turn."""
    usual_batch, usual_steps = case.on_gpu if device.type == "cuda" else case.on_cpu
    batch, steps, warm_up = options.batch or usual_batch, options.steps or usual_steps, options.workers
    is_cached = source_name == "cached"
    config = TrainConfig(
        data=DataConfig(name=str(folder)),
        model=ModelChoice(name=case.ours),
        augment=AUGMENT if is_cached else AugmentConfig(),
        optim=replace(OPTIM, batch_size=batch),
    )
    if is_cached:
        draw_files(folder, case, images=batch * (warm_up + steps), different=options.images)
        source = cached(case, config, device, workers=options.workers)
    else:
        source = synthetic(case, config, device, steps=warm_up + steps)
    size = (case.size, case.size)
    ours = VisionTransformer(model_config(config.model, image_size=size, in_channels=3, num_classes=CLASSES)).to(device)
    theirs = timm.create_model(case.theirs, num_classes=CLASSES, **case.changes).to(device)
    assert count_weights(ours) == count_weights(theirs)
    lasting = replace(config, optim=replace(config.optim, epochs=EPOCHS))
    computing = choose_computing(ours, lasting, num_images=case.num_images, emit=ignore)
    chosen = computing.training
    timed = partial(TimedBatches, batch_size=batch, warm_up=warm_up, steps=steps, device=device)
    pair = Pair(computing=computing, ours=timed(source.ours), theirs=timed(source.theirs))
    epochs = (
        our_training(ours, pair.ours, source.val, config=config, computing=computing),
        timm_script.training(
            theirs,
            lambda: pair.theirs.epoch(1),
            config,
            precision=Precision(device, amp="on" if chosen.enabled else "off", dtype=chosen.name),
            channels_last=options.channels_last,
            torchcompile=options.torchcompile,
        ),
    )
    for _ in range(options.rounds + 1):
        for epoch in epochs:
            epoch()
    return pair


def show(case: Case, source: str, pair: Pair, busy: Utilisation, options: argparse.Namespace) -> None:
    """Print what was measured."""
    chosen = pair.computing
    steps = f"{pair.ours.steps} steps a round of {pair.ours.batch_size} images"
    print(f"\n{case.title}, {source}, {chosen.training.name}, {steps}")
    for who, batches, is_compiled in (
        ("vit", pair.ours, chosen.forward is not None),
        ("timm", pair.theirs, options.torchcompile),
    ):
        compiled = ", compiled" if is_compiled else ""
        print(f"{who:5} {batches.images_per_second:9,.1f} images/s, {busy.during(batches.spans)}{compiled}")
    wanted = f" (at least {case.wanted:g})" if chosen.device.type == "cuda" else ""
    print(f"ratio {pair.ours.images_per_second / pair.theirs.images_per_second:.2f}{wanted}", flush=True)


def count_weights(model: torch.nn.Module) -> int:
    """Numbers that are trained."""
    return sum(parameter.numel() for parameter in model.parameters())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--source", nargs="+", choices=("synthetic", "cached"), default=["synthetic", "cached"])
    parser.add_argument("--batch", type=int, default=0, help="images; 256 and 512 on a GPU, few on a CPU")
    parser.add_argument("--steps", type=int, default=0, help="that are timed in a round; 64 and 200 on a GPU")
    parser.add_argument("--rounds", type=int, default=0, help="5 on a GPU, else 2")
    parser.add_argument("--images", type=int, default=64, help="different ones; all others are links to them")
    parser.add_argument("--workers", type=int, default=0, help="of timm's loader; one per core, but 16 at the most")
    parser.add_argument("--torchcompile", action="store_true", help="of timm's model")
    parser.add_argument("--channels-last", action="store_true", help="in timm's model")
    options = parser.parse_args()
    device = choose_device(options.device)
    machine = hardware()
    options.workers = options.workers or min(machine["cores"] or 4, 16)
    options.rounds = options.rounds or (5 if device.type == "cuda" else 2)
    print(
        f"{describe(device)}, {machine['cpu']}, {machine['cores']} cores; torch {torch.__version__}, timm {timm.__version__}"
    )
    if device.type != "cuda":
        print("these figures are meant for a GPU: here, a few small steps show that everything runs")
    with tempfile.TemporaryDirectory() as folder, Utilisation(device) as busy:
        os.environ["VIT_DATA_DIR"] = folder  # where what `auto` measures is kept, and decoded images
        for name in options.model:
            for source in options.source:
                pair = compare(CASES[name], source, Path(folder) / name, device, options)
                show(CASES[name], source, pair, busy, options)


if __name__ == "__main__":
    main()
