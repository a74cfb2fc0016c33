"""Compare a new head on a frozen DeiT-tiny at 224 pixels: features computed once, or in every epoch.

    uv run python benchmarks/frozen_features.py

Both are ``vit train --freeze-backbone`` on the same 100 drawn photos, from the same random weights in DeiT's format,
for 10 epochs, in float32 and in batches of 64, which is the batch size of features computed once. The slow training
has a flip that almost never happens, so the backbone runs in every epoch. The trainings alternate, after one of each
that decodes the photos. Their accuracies are printed, the median seconds with their range, and the ratio (above 1:
features are faster), which is at most about the number of epochs. One thread is used, because two would wait for each
other on cores that other processes also use.

The seconds are wall-clock time of training and validation, including computing features and writing checkpoints. They
leave out what is the same in both: decoding photos, loading weights, and drawing the curves.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

import vitcli
from vitcli.engine.alternation import alternate, ratio

CLASSES, BATCH = 10, 64
ALMOST_NEVER = 1e-12
"""The probability of a flip with which the images still count as augmented."""


def draw_photos(folder: Path, count: int) -> None:
    """Draw photos of 10 kinds of texture, 256 x 256, in a folder per kind."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:256, :256] / 256
    for index in range(count):
        kind = index % CLASSES
        angle, waves = np.pi * kind / CLASSES + random.normal(0, 0.12), 6 + random.normal(0, 1)
        wave = np.sin(2 * np.pi * waves * (np.cos(angle) * rows + np.sin(angle) * columns) + random.uniform(0, 6))
        pixels = 127 + 60 * wave[..., None] * random.uniform(0.3, 1, 3) + random.normal(0, 40, (256, 256, 3))
        path = folder / f"kind-{kind}" / f"{index:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


def train(name: str, weights: Path, *, epochs: int, flip: float) -> float:
    """Train a new head; print the accuracy, and return the seconds of training and validation."""
    result = vitcli.train(
        {
            "data": {"name": "photos"},
            "augment": {"flip": flip},
            "optim": {"epochs": epochs, "batch_size": BATCH, "train_only": "head"},
            "run": {"init_from": str(weights), "name": name, "overwrite": True, "amp": "off"},
        }
    )
    assert isinstance(result, vitcli.TrainResult)
    print(
        f"{name:9} {result.seconds:7.1f} s   {result.best.val_accuracy:.1%} of {result.val_images} images", flush=True
    )
    return result.seconds


def main() -> None:
    """Train both in turn, and print the medians and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        os.environ["VIT_DATA_DIR"] = name
        draw_photos(Path("photos"), arguments.images)
        torch.manual_seed(0)
        weights = Path("deit_tiny_patch16_224-a1311bcf.pth")
        torch.save({"model": timm.create_model("deit_tiny_patch16_224").state_dict()}, weights)
        trainings = {
            kind: partial(train, kind, weights, epochs=arguments.epochs, flip=flip)
            for kind, flip in (("features", 0.0), ("images", ALMOST_NEVER))
        }
        seconds = alternate(trainings, rounds=arguments.rounds)
    print(f"{arguments.images:,} images, {arguments.epochs} epochs, torch {torch.__version__}")
    for kind, times in seconds.items():
        print(f"{kind:9} {statistics.median(times):7.1f} s ({min(times):.1f} to {max(times):.1f})")
    print(f"ratio {ratio(seconds['images'], seconds['features'])}")


if __name__ == "__main__":
    main()
