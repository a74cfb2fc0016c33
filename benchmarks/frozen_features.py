"""Compare a new head on a frozen DeiT-tiny at 224 pixels: features computed once, or in every epoch.

    uv run python benchmarks/frozen_features.py

Both are ``vit train --freeze-backbone`` on the same 1,000 drawn photos, from the same random weights in DeiT's
format, for 10 epochs. The slow training has an augmentation that shifts images by almost nothing, so the backbone
runs in every epoch. The seconds of training and validation, the accuracies, and the ratio of the seconds are printed
(above 1: features are faster).
"""

import argparse
import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image

import vitcli

CLASSES = 10


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


def main() -> None:
    """Train both, and print the seconds, accuracies and ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        os.environ["VIT_DATA_DIR"] = name
        draw_photos(Path("photos"), arguments.images)
        torch.manual_seed(0)
        weights = Path("deit_tiny_patch16_224-a1311bcf.pth")
        torch.save({"model": timm.create_model("deit_tiny_patch16_224").state_dict()}, weights)
        settings = {
            "data": {"name": "photos"},
            "optim": {"epochs": arguments.epochs, "train_only": "head"},
            "run": {"init_from": str(weights)},
        }
        seconds = {}
        for kind, augment in (("features", {}), ("images", {"shift": 1e-12})):
            result = vitcli.train(settings, {"augment": augment, "run": {"name": kind}})
            assert isinstance(result, vitcli.TrainResult)
            seconds[kind] = result.seconds
            accuracy = 100 * result.best.val_accuracy
            print(f"{kind:9} {result.seconds:7.1f} s   {accuracy:.1f} % of {result.val_images} images", flush=True)
        print(f"{arguments.images:,} images, {arguments.epochs} epochs, torch {torch.__version__}")
        print(f"ratio {seconds['images'] / seconds['features']:.1f}")


if __name__ == "__main__":
    main()
