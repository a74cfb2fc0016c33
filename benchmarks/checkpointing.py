"""Measure the cost of a checkpoint after every epoch, for the weights of ViT-B: 86 million, trained with AdamW.

    uv run python benchmarks/checkpointing.py

Each epoch writes three files: the last weights, the training state (weights and two moments) and the best weights,
1.7 GB in all. The training thread copies the state (1.0 GB) and continues; another thread writes. Rounds with and
without a save alternate. Each has as many steps (batch 2, 224 pixels) as the write takes, so that the figure includes
the time that writing takes from training. The cost of a save does not depend on the length of an epoch. Its share is
given for an epoch of 10,000 images at the measured speed; this is extrapolated, because such an epoch takes hours on
a CPU. The length of the epoch for which the cost is 2 % is printed too.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from vitcli.core.config import TrainConfig
from vitcli.core.events import EpochRecord, ignore
from vitcli.core.interrupts import StopRequest
from vitcli.core.model_config import ModelChoice
from vitcli.core.optim_config import OptimConfig
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.core.runs import Run
from vitcli.data.dataset import Facts
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.engine.device import choose_device, describe
from vitcli.engine.mixing import Mixing
from vitcli.engine.trainer import Trainer
from vitcli.engine.trial import time_steps
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer
from vitcli.trained.precision import choose_precision
from vitcli.training.saving import RunSaver

SIZE, BATCH, EPOCH_IMAGES = (224, 224), 2, 10_000
FACTS = Facts(
    name="noise",
    classes=("a", "b"),
    channels=3,
    native_size=None,
    aspect=1.0,
    short_side=32,
    counts={"train": 2},
    fingerprint="",
)


def main() -> None:
    """Measure steps with and without a save, and print the cost of a save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    config = model_config(ModelChoice(name="vit-base-patch16"), image_size=SIZE, in_channels=3, num_classes=2)
    preprocessing = Preprocessing(
        geometry=Geometry(size=SIZE, channels=3), image_size=SIZE, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    images = arguments.steps * BATCH
    with tempfile.TemporaryDirectory() as folder:
        run = Run.create(Path(folder) / "run", seed=0, versions={}, summary={"dataset": "", "model": "", "recipe": ""})
        saver = RunSaver(run, TrainConfig(), config, FACTS, preprocessing, computed={}, seconds=0.0)
        model = VisionTransformer(config).to(device)
        trainer = Trainer(
            model,
            train=Batches(
                torch.randint(256, (images, 3, *SIZE), dtype=torch.uint8),
                torch.arange(images) % 2,
                batch_size=BATCH,
                transform=InputTransform(preprocessing, device),
                device=device,
            ),
            val=(),
            config=OptimConfig(optimizer="adamw"),
            mixing=Mixing(mixup=0, cutmix=0, seed=0),
            precision=choose_precision(model, work="training", batch=BATCH),
            saver=saver,
            emit=ignore,
            stop=StopRequest(),
            seed=0,
        )
        time_steps(trainer)
        copies, plain, saving = [], [], []
        for number in range(1, arguments.rounds + 1):
            started = time.perf_counter()
            time_steps(trainer)
            plain.append(time.perf_counter() - started)

            trainer.step, trainer.records = 0, [better_than_before(number)]
            started = time.perf_counter()
            saver.save_epoch(trainer.state_dict())
            copies.append(time.perf_counter() - started)
            time_steps(trainer)
            saver.wait()
            saving.append(time.perf_counter() - started)
        saver.close()
    step = statistics.median(plain) / arguments.steps
    cost = statistics.median(one - other for one, other in zip(saving, plain, strict=True))
    epoch = step * EPOCH_IMAGES / BATCH
    print(f"{describe(device)}, torch {torch.__version__}; {1000 * step:.0f} ms a step of {BATCH} images")
    print(f"the training thread waits {statistics.median(copies):.2f} s for its copy")
    print(f"a save costs {cost:.2f} s in all: {100 * cost / epoch:.3f} % of an epoch of {EPOCH_IMAGES:,} images")
    print(f"it is 2 % of an epoch of {cost / 0.02:.0f} s")


def better_than_before(epoch: int) -> EpochRecord:
    """Make the record of an epoch that is the best so far, so that its weights are written too."""
    return EpochRecord(
        epoch=epoch,
        learning_rate=0.0,
        train_loss=0.0,
        train_accuracy=0.0,
        val_loss=0.0,
        val_accuracy=epoch / 1000,
        seconds=1.0,
        images_per_second=1.0,
        data_share=0.0,
        is_best=True,
    )


if __name__ == "__main__":
    main()
