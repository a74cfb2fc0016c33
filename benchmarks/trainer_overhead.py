"""Measure the overhead of the trainer over a bare loop with the same model, batches and optimiser.

    uv run python benchmarks/trainer_overhead.py

The 119k CIFAR model, batch 128, fp32, AdamW with clipped gradients, on random images that are cropped and flipped.
The trainer seeds every step, follows a schedule, keeps totals, listens for signals and collects its state every 16
steps (the saver discards it); the loop does none of this. Epochs of 16 steps alternate. Their wall-clock time is
measured from each batch to the request for the next, so it includes all that the trainer does between two batches. It
leaves out making the batches, which is the same in both, and what happens once per epoch, for example validation. The
medians are printed, and their ratio (above 1: the trainer takes more time), with the ratios within the rounds. One
thread is used, because two would wait for each other on cores that other processes also use.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional as F

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.events import ignore
from vitcli.core.interrupts import StopRequest
from vitcli.core.model_config import ModelChoice
from vitcli.core.optim_config import OptimConfig
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data.augment import TrainTransform
from vitcli.data.loader import Batch, Batches
from vitcli.data.preprocess import InputTransform
from vitcli.engine.alternation import alternate, ratio
from vitcli.engine.autocast import Precision
from vitcli.engine.mixing import Mixing
from vitcli.engine.optim import build_optimizers
from vitcli.engine.state import State
from vitcli.engine.trainer import Trainer
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer

CPU = torch.device("cpu")
BATCH, STEPS = 128, 16
OPTIM = OptimConfig(epochs=1, batch_size=BATCH, optimizer="adamw", clip_grad=1.0)


class NoSaver:
    """A saver that saves nothing."""

    def save_epoch(self, state: State) -> None:
        """Do nothing."""

    def save_step(self, state: State) -> None:
        """Do nothing."""


class TimedBatches(Batches):
    """Batches that record the seconds that the steps of an epoch take."""

    seconds: float

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of one epoch, and time the step after each of them."""
        self.seconds = 0.0
        for batch in super().epoch(number, start=start):
            started = time.perf_counter()
            yield batch
            self.seconds += time.perf_counter() - started


def train(model: VisionTransformer, batches: Batches) -> None:
    """Train for an epoch with the trainer and all its functions."""
    trainer = Trainer(
        model,
        train=batches,
        val=[(torch.zeros(2, 3, 32, 32), torch.zeros(2, dtype=torch.int64))],
        config=OPTIM,
        mixing=Mixing(mixup=0, cutmix=0, seed=0),
        precision=Precision(CPU, amp="off", dtype="bfloat16"),
        saver=NoSaver(),
        emit=ignore,
        stop=StopRequest(),
        seed=0,
        save_steps=STEPS,
    )
    trainer.fit()


def bare_loop(model: VisionTransformer, batches: Batches) -> None:
    """Train for an epoch with the shortest possible loop."""
    (optimizer,) = build_optimizers(model, OPTIM).all
    parameters = list(model.parameters())
    model.train()
    for images, labels in batches.epoch(1):
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        nn.utils.clip_grad_norm_(parameters, OPTIM.clip_grad)
        optimizer.step()


def main() -> None:
    """Measure both, and print the times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    config = model_config(ModelChoice(name="vit-nano-patch4"), image_size=(32, 32), in_channels=3, num_classes=10)
    model = VisionTransformer(config)
    preprocessing = Preprocessing(
        geometry=Geometry(size=(32, 32), channels=3, resize="squash"),
        image_size=(32, 32),
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    batches = TimedBatches(
        torch.randint(256, (BATCH * STEPS, 3, 32, 32), dtype=torch.uint8),
        torch.randint(10, (BATCH * STEPS,)),
        batch_size=BATCH,
        transform=TrainTransform(AugmentConfig(crop_padding=4, flip=0.5), InputTransform(preprocessing, CPU)),
        device=CPU,
    )

    def measure(train_epoch: Callable[[VisionTransformer, Batches], None]) -> float:
        train_epoch(model, batches)
        return batches.seconds / STEPS

    measures = {"bare loop": lambda: measure(bare_loop), "trainer": lambda: measure(train)}
    seconds = alternate(measures, rounds=arguments.rounds)
    print(f"batch {BATCH}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name, times in seconds.items():
        print(f"{name:10} {1000 * statistics.median(times):.2f} ms a step")
    print(f"ratio {ratio(seconds['trainer'], seconds['bare loop'])}")


if __name__ == "__main__":
    main()
