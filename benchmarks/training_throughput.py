"""Compare images per second in training, ``vit train`` and timm's train script, and how busy both keep the GPU.

    uv run python benchmarks/training_throughput.py
    uv run python benchmarks/training_throughput.py --model deit-tiny --source cached --torchcompile

The figures are meant for a GPU; on a CPU, a few small steps only show that everything runs. The models are the 119k
CIFAR model at 32 pixels, DeiT-tiny, ViT-S and ViT-B at 224, and ViT-B at 384. Both libraries have the same number of
weights, the same batch, AdamW, clipped gradients, label smoothing, and the precision that ``vit train --amp auto``
chooses here. Images have two sources:

synthetic: one random batch on the device, used again and again: only the step, without augmentation and mixing.
cached: JPEG files (links to a few different files, so that reading them costs little), random resized crops, flips,
    brightness, contrast and saturation with the defaults of timm's script, and DeiT's MixUp and CutMix. Our images
    are decoded before the clock starts (as they are before every epoch except the first), at the smallest size that
    covers the model's. They are stored on the GPU if there is room, and augmented there. timm decodes, augments and
    mixes its images in ``--workers`` processes, into pinned memory, and prefetches them.

Our side is the trainer, compiled if ``vit train`` would compile it for 300 epochs of ImageNet or CIFAR-10, or as
``--compile`` says. timm's script is not in its package, so its loop is written here with timm's parts. It allows TF32
and uses a fused optimiser; ``--torchcompile`` and ``--channels-last`` are options of the script. The clock starts
after as many steps as there are workers, and ends when the device has finished the last step. Rounds alternate; the
ratio of the medians is printed (above 1: ours is faster). The share of the peak counts the cost of the whole model,
three forward passes per image, for both, although ours leaves out tokens of the last block that are not read. The
peak is measured here, with a large matrix product.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import product, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import timm
import timm_script
import torch
from first_pass import draw_photo
from step_timing import TimedBatches, Utilisation
from throughput_cases import CASES, CLASSES, Case, count_weights

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.config import DataConfig, RunConfig, TrainConfig
from vitcli.core.events import Event, Note, Warned, ignore
from vitcli.core.files import write_json
from vitcli.core.interrupts import StopRequest
from vitcli.core.model_config import ModelChoice
from vitcli.core.optim_config import OptimConfig
from vitcli.data.dataset import open_dataset
from vitcli.data.loader import Batch
from vitcli.data.splits import plan_splits
from vitcli.data.store import data_dir
from vitcli.engine.autocast import Precision
from vitcli.engine.device import choose_device, describe, has_bfloat16
from vitcli.engine.distributed import Processes
from vitcli.engine.hardware import hardware, matmul_peak
from vitcli.engine.mixing import Mixing
from vitcli.engine.trainer import Trainer
from vitcli.models.flops import count_flops
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer
from vitcli.training.computing import Computing, choose_computing
from vitcli.training.images import image_batches, prepare_training_data
from vitcli.training.saving import NoSaver

EPOCHS = 300
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
"""A function from the number of an epoch to its batches."""


class Source(NamedTuple):
    """The source of the images of both libraries."""

    ours: Epoch
    theirs: Epoch
    val: Iterable[Batch]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Both trainings of a model, and their measurements."""

    computing: Computing
    flops: int
    """The floating-point operations of a training step, per image."""
    ours: TimedBatches
    theirs: TimedBatches
    epochs: tuple[Callable[[], None], Callable[[], None]]
    """The functions that train for an epoch: ours, theirs."""

    def figures(self, peak: float) -> dict[str, dict[str, Any]]:
        """Compute the images per second of each library, and the share of ``peak`` operations per second."""
        speeds = {"vit": self.ours.images_per_second, "timm": self.theirs.images_per_second}
        return {
            who: {"images_per_second": speed, "of_peak": speed * self.flops / peak} for who, speed in speeds.items()
        }


def our_training(
    model: VisionTransformer,
    batches: TimedBatches,
    val: Iterable[Batch],
    *,
    config: TrainConfig,
    computing: Computing,
) -> Callable[[], None]:
    """Return a function that trains for an epoch with ``vit``."""
    trainer = Trainer(
        model,
        train=batches,
        val=val,
        config=replace(config.optim, grad_accum_steps=computing.micro_batches),
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
    """Make a source with one random batch for all steps."""
    batch = config.optim.batch_size
    images = torch.randn(batch, 3, case.size, case.size, device=device)
    labels = torch.randint(CLASSES, (batch,), device=device)

    def epoch(_number: int) -> Iterable[Batch]:
        return repeat((images, labels), steps)

    return Source(ours=epoch, theirs=epoch, val=[(images[:2], labels[:2])])


def cached(case: Case, config: TrainConfig, device: torch.device, *, workers: int) -> Source:
    """Make a source of image files: ours are decoded once, timm's in every epoch."""
    dataset = open_dataset(config.data, directory=data_dir())
    plan = plan_splits(dataset, config.data, seed=0)
    data = prepare_training_data(dataset, plan, config, (case.size, case.size), emit=ignore)
    train, val = image_batches(data, config, device)
    files = timm_script.file_batches(
        Path(config.data.name), config, size=case.size, classes=CLASSES, workers=workers, device=device
    )
    return Source(ours=train.epoch, theirs=lambda _number: files, val=val)


def draw_files(folder: Path, case: Case, *, images: int, different: int) -> None:
    """Draw a data set: training images in a folder per class, and one validation image of each class."""
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


def pair_up(case: Case, source_name: str, folder: Path, device: torch.device, options: argparse.Namespace) -> Pair:
    """Build one model in both libraries, and the functions that train it."""
    usual_batch, usual_steps = case.on_gpu if device.type == "cuda" else case.on_cpu
    batch, steps, warm_up = options.batch or usual_batch, options.steps or usual_steps, options.workers
    is_cached = source_name == "cached"
    size = (case.size, case.size)
    depth = {"depth": options.depth} if options.depth else {}
    config = TrainConfig(
        data=DataConfig(name=str(folder)),
        model=ModelChoice(name=case.ours, changes={"image_size": size, **depth}),
        augment=AUGMENT if is_cached else AugmentConfig(),
        optim=replace(OPTIM, batch_size=batch),
        run=RunConfig(compile=options.compile),
    )
    if is_cached:
        draw_files(folder, case, images=batch * (warm_up + steps), different=options.images)
        source = cached(case, config, device, workers=options.workers)
    else:
        source = synthetic(case, config, device, steps=warm_up + steps)
    ours = VisionTransformer(model_config(config.model, image_size=size, in_channels=3, num_classes=CLASSES))
    theirs = timm.create_model(case.theirs, num_classes=CLASSES, **{**case.changes, **depth}).to(device)
    assert count_weights(ours) == count_weights(theirs)
    flops = 3 * count_flops(ours.config)
    ours.to(device)
    lasting = replace(config, optim=replace(config.optim, epochs=EPOCHS))
    computing = choose_computing(ours, lasting, num_images=case.num_images, processes=Processes(), emit=say)
    chosen = computing.training
    timed = partial(TimedBatches, batch_size=batch, warm_up=warm_up, steps=steps, device=device)
    our_batches, their_batches = timed(source.ours), timed(source.theirs)
    epochs = (
        our_training(ours, our_batches, source.val, config=config, computing=computing),
        timm_script.training(
            theirs,
            lambda: their_batches.epoch(1),
            config,
            precision=Precision(device, amp="on" if chosen.enabled else "off", dtype=chosen.name),
            channels_last=options.channels_last,
            torchcompile=options.torchcompile,
        ),
    )
    return Pair(computing=computing, flops=flops, ours=our_batches, theirs=their_batches, epochs=epochs)


def row_of(case: Case, source: str, pair: Pair, peak: float, options: argparse.Namespace) -> dict[str, Any]:
    """Gather the measurements so far, for JSON."""
    figures = pair.figures(peak)
    figures["vit"]["compiled"] = pair.computing.forward is not None
    figures["timm"]["compiled"] = options.torchcompile
    return {
        "case": f"{case.title}, {source}",
        "precision": pair.computing.training.name,
        "batch": pair.ours.batch_size,
        "steps": pair.ours.steps,
        "rounds": len(pair.theirs.spans),
        **figures,
        "ratio": figures["vit"]["images_per_second"] / figures["timm"]["images_per_second"],
        "goal": case.wanted,
    }


def show(row: Mapping[str, Any], pair: Pair, busy: Utilisation) -> None:
    """Print the measurements of a case."""
    print(f"\n{row['case']}, {row['precision']}, {row['steps']} steps a round of {row['batch']} images")
    for who, batches in (("vit", pair.ours), ("timm", pair.theirs)):
        figures, how_busy = row[who], busy.during(batches.spans)
        compiled = ", compiled" if figures["compiled"] else ""
        speed, share = figures["images_per_second"], figures["of_peak"]
        print(f"{who:5} {speed:9,.1f} images/s, {share:.1%} of the peak, {how_busy}{compiled}")
    wanted = f" (at least {row['goal']:g})" if row["goal"] and pair.computing.device.type == "cuda" else ""
    print(f"ratio {row['ratio']:.2f}{wanted}", flush=True)


def in_words(row: Mapping[str, Any]) -> str:
    """Describe a row in one line."""
    speed, share = row["vit"]["images_per_second"], row["vit"]["of_peak"]
    goal = f" (goal {row['goal']:g})" if row["goal"] else ""
    return (
        f"{row['case']}, {row['precision']}: {speed:,.0f} images/s, {row['ratio']:.2f} times timm's{goal},"
        f" {share:.1%} of the peak (timm {row['timm']['of_peak']:.1%})"
    )


def say(event: Event) -> None:
    """Print notes and warnings, for example the chosen precision."""
    if isinstance(event, Note | Warned):
        print(event.text, flush=True)


def can_compile(device: torch.device) -> bool:
    """Try torch.compile, which needs a C compiler and Python's headers; print the reason if it does not work."""
    try:
        torch.compile(torch.square)(torch.ones(8, device=device))
    except Exception as error:  # noqa: BLE001 - it can fail in any way
        print(f"nothing is compiled, because torch.compile does not work here: {error}", flush=True)
        return False
    return True


def main() -> None:
    """Measure all cases, and print the speeds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", nargs="+", choices=CASES, default=["deit-tiny", "cifar"])
    parser.add_argument("--source", nargs="+", choices=("synthetic", "cached"), default=["synthetic", "cached"])
    parser.add_argument("--batch", type=int, default=0, help="images; 96 to 512 on a GPU, few on a CPU")
    parser.add_argument("--steps", type=int, default=0, help="steps that are timed in a round; 16 to 80 on a GPU")
    parser.add_argument("--rounds", type=int, default=0, help="5 on a GPU, else 2")
    parser.add_argument("--depth", type=int, default=0, help="blocks of a model; 0: all")
    parser.add_argument("--images", type=int, default=64, help="different images; all others are links to them")
    parser.add_argument("--workers", type=int, default=0, help="of timm's loader; 0: one per core, at most 16")
    parser.add_argument("--compile", choices=("auto", "on", "off"), default="auto", help="compile our model")
    parser.add_argument("--torchcompile", action="store_true", help="compile timm's model")
    parser.add_argument("--channels-last", action="store_true", help="use this memory format in timm's model")
    parser.add_argument("--json", type=Path, default=None, help="file for the figures, written after every round")
    options = parser.parse_args()
    device = choose_device(options.device)
    machine = hardware()
    options.workers = options.workers or min(machine["cores"] or 4, 16)
    options.rounds = options.rounds or (5 if device.type == "cuda" else 2)
    print(
        f"{describe(device)}, {machine['cpu']}, {machine['cores']} cores; torch {torch.__version__}, timm {timm.__version__}"
    )
    if device.type != "cuda":
        print("these figures are meant for a GPU: here, a few small steps only show that everything runs")
    if (options.torchcompile or options.compile == "on") and not can_compile(device):
        options.compile, options.torchcompile = "off", False
    peak, rows = matmul_peak(device, torch.bfloat16 if has_bfloat16(device) else torch.float32), {}
    with tempfile.TemporaryDirectory() as folder, Utilisation(device) as busy:
        os.environ["VIT_DATA_DIR"] = folder  # for the measurements of `auto`, and decoded images
        for name, source in product(options.model, options.source):
            case = CASES[name]
            pair = pair_up(case, source, Path(folder) / name, device, options)
            for number in range(options.rounds + 1):  # the first round warms up
                for epoch in pair.epochs:
                    epoch()
                if number:
                    rows[name, source] = row_of(case, source, pair, peak, options)
                if number and options.json:
                    says = [in_words(row) for row in rows.values()]
                    write_json(options.json, {"says": says, "peak": peak, "rows": list(rows.values())})
            show(rows[name, source], pair, busy)


if __name__ == "__main__":
    main()
