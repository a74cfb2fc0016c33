"""Train CIFAR-10 with ``vit``: the seconds to 75.5 %, or the best accuracy in a given time; part of benchmarks/gpu.py.

The first measurement trains the 116k model of the recipe ``small-images`` for its ten epochs. The second trains a
model of 1.2 million parameters, with RandAugment and label smoothing; it times two epochs, and then trains for as
many epochs as the time allows. The validation images choose the epoch, and the test images are used once, at the end.
Everything is done by the functions behind ``vit train`` and ``vit eval``. The clock starts when training starts, with
decoded images.
"""

import argparse
import shutil
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import vitcli
from vitcli.core.events import EpochRecord, Event, Note, TrainingStarted, Warned
from vitcli.core.files import write_json
from vitcli.training.result import TrainResult

GOAL = 0.755
LARGE: dict[str, Any] = {
    "model": {"name": "vit-micro-patch4"},
    "augment": {"policy": "rand", "policy_ops": 1},
    "optim": {"batch_size": 256, "lr": 0.015, "adamw_lr": 0.004, "label_smoothing": 0.1},
}
TO_SPARE = 15.0
"""Seconds reserved for the test images, and for epochs that are slower than the first ones."""


class Listener:
    """A listener that notes when each epoch ends, and writes the figures to a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.figures: dict[str, Any] = {"says": []}
        self.epochs: list[dict[str, float]] = []
        self.started = 0.0

    def __call__(self, event: Event) -> None:
        """Handle an event of training."""
        if isinstance(event, Note | Warned):
            print(event.text, flush=True)
        elif isinstance(event, TrainingStarted):
            self.started, self.epochs = time.perf_counter(), []
        elif isinstance(event, EpochRecord):
            seconds = time.perf_counter() - self.started
            self.epochs.append({"seconds": seconds, "val_accuracy": event.val_accuracy})
            print(f"epoch {event.epoch}: validation {event.val_accuracy:.2%} after {seconds:.1f} s", flush=True)
            self.write()

    def write(self, *says: str, **figures: Any) -> None:
        """Add figures, and write all of them to the file."""
        self.figures |= figures
        self.figures["says"] += says
        write_json(self.path, {**self.figures, "epochs": self.epochs})


def unpacked(data: Path, folder: Path, *, per_class: int) -> Path:
    """Unpack an archive, or copy a folder, with at most ``per_class`` images of each class and split; 0: all."""
    if data.is_dir() and not per_class:
        return data
    if folder.is_dir():
        return folder
    half = folder.with_suffix(".part")  # may be left over from a part that was stopped
    shutil.rmtree(half, ignore_errors=True)
    counts: Counter[str] = Counter()

    def is_wanted(path: Path) -> bool:
        counts[str(path.parent)] += path.suffix == ".jpg"
        return path.suffix == ".jpg" and (not per_class or counts[str(path.parent)] <= per_class)

    if data.is_dir():
        for path in filter(is_wanted, sorted(data.rglob("*"))):
            place = half / path.relative_to(data)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    else:
        with tarfile.open(data) as archive:
            members = (member for member in archive if is_wanted(Path(member.name)))
            archive.extractall(half, members, filter="data")
    return half.rename(folder)


def train(
    folder: Path, options: argparse.Namespace, listener: Listener, *layers: dict[str, Any], epochs: int
) -> TrainResult:
    """Train with the recipe ``small-images``, changed by the given settings."""
    run = {"recipe": "small-images", "device": options.device, "output_dir": str(options.work / "experiments")}
    base: dict[str, dict[str, Any]] = {"data": {"name": str(folder)}, "optim": {"epochs": epochs}, "run": run}
    result = vitcli.train(base, *layers, emit=listener)
    assert isinstance(result, TrainResult)
    return result


def judge(result: TrainResult, options: argparse.Namespace, listener: Listener) -> float:
    """Return the accuracy on the test images, and write it to the file with the facts of the training."""
    judged = vitcli.evaluate(model=str(result.path), device=options.device)
    listener.write(
        model=result.model,
        parameters=result.parameters,
        train_seconds=result.seconds,
        test_accuracy=judged.metrics.top1,
    )
    return judged.metrics.top1


def reach_goal(folder: Path, options: argparse.Namespace, listener: Listener) -> None:
    """Measure the time until a validation accuracy of 75.5 % is reached."""
    accuracy = judge(train(folder, options, listener, epochs=1 if options.quick else 10), options, listener)
    reached = [epoch["seconds"] for epoch in listener.epochs if epoch["val_accuracy"] >= GOAL]
    when = f"after {reached[0]:.1f} s" if reached else "not reached"
    listener.write(
        f"{GOAL:.1%} of the validation images {when}; test {accuracy:.2%} after {listener.epochs[-1]['seconds']:.1f} s",
        seconds_to_goal=reached[0] if reached else None,
    )


def use_time(folder: Path, options: argparse.Namespace, listener: Listener) -> None:
    """Train for as many epochs as the time allows."""
    train(folder, options, listener, LARGE, epochs=2)
    first, second = (epoch["seconds"] for epoch in listener.epochs)
    left = options.until - TO_SPARE - time.time()
    epochs = int(left / (second - first))
    if epochs < 3:
        raise SystemExit(f"{left:.0f} s are not enough: an epoch takes {second - first:.1f} s; increase --minutes")
    result = train(folder, options, listener, LARGE, epochs=3 if options.quick else epochs)
    accuracy = judge(result, options, listener)
    figures = listener.figures
    took, count = listener.epochs[-1]["seconds"], len(listener.epochs)
    listener.write(f"test {accuracy:.2%}: {figures['parameters']:,} parameters, {count} epochs in {took:.0f} s")


def main() -> None:
    """Train, and write the figures to the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="a folder with train/ and test/, or an archive of one")
    parser.add_argument(
        "--until", type=float, default=0, help="the end of the time, in seconds since 1970; 0: 75.5 % is the goal"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="20 images of each class, and few epochs")
    parser.add_argument("--work", type=Path, default=Path("experiments"), help="folder of images and runs")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    listener = Listener(options.json)
    folder = unpacked(options.data, options.work / "cifar10", per_class=20 if options.quick else 0)
    (use_time if options.until else reach_goal)(folder, options, listener)


if __name__ == "__main__":
    main()
