"""Compare reading JPEG photos with torchvision: into a file of pixels, and as the training batches of an epoch.

    export MALLOC_TRIM_THRESHOLD_=1000000000 MALLOC_MMAP_THRESHOLD_=1000000000
    uv run --extra fast python benchmarks/first_pass.py

The variables make glibc keep freed memory. Without them, some processes return the memory of every photo to the system:
this can halve the speed of torchvision with large photos, and slow down ours by a fifth with small ones.

pixels: equal work. Every photo is decoded, resized to 384 x 512 (for a model of 384 pixels) and written to a file, as
    uint8. torchvision's side is ImageFolder, Resize and our writer. Both decode large photos at a fraction of their
    size (in torchvision's loader, with Pillow's draft()). Ours also reads all headers and computes a fingerprint. The
    mean difference between the pixels, which are 0 to 255, is printed.
later epoch: equal output, unequal work. Shuffled, normalised float batches of 32 random resized crops of 384 x 384:
    torchvision's usual pipeline decodes the photos again, at full size; ours crops the pixels in the file, so its
    small crops have less detail.
first epoch: the same, but ours writes the file first.

Both use one core (on Linux) and one thread; ours uses simplejpeg, an extra, if it is installed. Rounds alternate. The
medians are printed, and the ratios of torchvision's seconds to ours with the range over the rounds (above 1: ours is
faster). Not compared: several workers, photos that the system has not read before, GPUs.
"""

import argparse
import os
import statistics
import tempfile
from collections import deque
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.config import DataConfig
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data.augment import TrainTransform
from vitcli.data.cache import PreparedSplit, read_split, write_split
from vitcli.data.dataset import open_dataset
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.engine.alternation import alternate, ratio, seconds

CPU = torch.device("cpu")
SIZE, GREY = (384, 384), (0.5,) * 3
GEOMETRY = Geometry(size=(384, 512), channels=3)
CHUNK = 56
"""The number of images that ours, and therefore torchvision, writes at once."""
BATCH, EPOCHS, DIFFERENT = 32, 8, 12


def draw_photo(random: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """Draw noise at several scales, each as strong as in photos; about 1.9 bits per pixel at quality 90."""
    width, height = size
    pixels = np.zeros((height, width, 3), dtype=np.float32)
    for scale in (1, 2, 4, 16, 64, 256):
        noise = random.normal(size=(height // scale + 2, width // scale + 2, 3)).astype(np.float32)
        layers = [Image.fromarray(noise[..., channel]).resize(size, Image.Resampling.BICUBIC) for channel in range(3)]
        pixels += np.stack([np.asarray(layer) for layer in layers], axis=-1) * scale**0.75
    low, high = np.percentile(pixels, (0.5, 99.5))
    return Image.fromarray(((pixels - low) / (high - low) * 255).clip(0, 255).astype(np.uint8))


def draw(folder: Path, size: tuple[int, int], count: int) -> None:
    """Draw photos of two classes; at most 12 are different, because drawing takes longer than decoding."""
    random = np.random.default_rng(0)
    for kind in "ab":
        (folder / "train" / kind).mkdir(parents=True)
    photos = [folder / "train" / "ab"[index % 2] / f"{index}.jpg" for index in range(count)]
    for index, path in enumerate(photos):
        if index < DIFFERENT:
            draw_photo(random, size).save(path, quality=90)
        else:
            path.write_bytes(photos[index % DIFFERENT].read_bytes())


def our_file(photos: Path, folder: Path) -> PreparedSplit:
    """Write the pixels of all photos to a file, as before training."""
    dataset = open_dataset(DataConfig(name=str(photos), workers=1, cache="disk"), directory=folder)
    return dataset.split("train", GEOMETRY)


def their_file(photos: Path, folder: Path) -> PreparedSplit:
    """Write the pixels of all photos to a file, decoded and resized by torchvision."""
    resize = transforms.Resize(GEOMETRY.size, transforms.InterpolationMode.BICUBIC)
    change = transforms.Compose([resize, transforms.PILToTensor()])
    images = datasets.ImageFolder(photos / "train", change, loader=load_small)
    chunks = (pixels.numpy() for pixels, _ in DataLoader(images, batch_size=CHUNK))
    write_split(folder / "pixels", chunks, np.array(images.targets), (3, *GEOMETRY.size))
    return read_split(folder / "pixels", in_memory=False)


def load_small(path: str) -> Image.Image:
    """Load a photo as torchvision does, but decode it at the smallest size that covers the result."""
    with Image.open(path) as image:
        image.draft("RGB", GEOMETRY.size[::-1])
        return image.convert("RGB")


def compare(size: tuple[int, int], count: int, rounds: int) -> None:
    """Measure photos of one size, and print the speeds and ratios."""
    to_input = InputTransform(Preprocessing(geometry=GEOMETRY, image_size=SIZE, mean=GREY, std=GREY), CPU)
    augment = TrainTransform(AugmentConfig(crop_scale=0.08), to_input)
    crop, normalise = transforms.RandomResizedCrop(SIZE), transforms.Normalize(GREY, GREY)
    usual = transforms.Compose([crop, transforms.ToTensor(), normalise])
    written: dict[str, PreparedSplit] = {}
    with tempfile.TemporaryDirectory() as name:
        photos = Path(name) / "photos"
        draw(photos, size, count)
        kilobytes = sum(file.stat().st_size for file in photos.rglob("*.jpg")) / count / 1000

        def write(who: str, writer: Callable[[Path, Path], PreparedSplit]) -> None:
            written[who] = writer(photos, Path(tempfile.mkdtemp(dir=name)))

        def our_epochs() -> None:
            pixels = written["ours"]
            batches = Batches(pixels.images, pixels.labels, batch_size=BATCH, transform=augment, device=CPU)
            for number in range(EPOCHS):
                deque(batches.epoch(number), maxlen=0)

        def their_epoch() -> None:
            images = datasets.ImageFolder(photos / "train", usual)
            deque(DataLoader(images, batch_size=BATCH, shuffle=True), maxlen=0)

        times = alternate(
            {
                "our pixels": lambda: seconds(lambda: write("ours", our_file)),
                "their pixels": lambda: seconds(lambda: write("theirs", their_file)),
                "our epoch": lambda: seconds(our_epochs) / EPOCHS,
                "their epoch": lambda: seconds(their_epoch),
            },
            rounds=rounds,
        )
        ours, theirs = (written[who].as_array().astype(np.int16) for who in ("ours", "theirs"))
    times["our first epoch"] = [sum(both) for both in zip(times["our pixels"], times["our epoch"], strict=True)]
    difference = np.abs(ours - theirs).mean()
    print(f"{count} photos of {size[0]} x {size[1]} ({kilobytes:,.0f} KB); mean difference of pixels {difference:.2f}")
    for what, slow, fast in (
        ("pixels", "their pixels", "our pixels"),
        ("first epoch", "their epoch", "our first epoch"),
        ("later epoch", "their epoch", "our epoch"),
    ):
        them, us = (count / statistics.median(times[name]) for name in (slow, fast))
        print(
            f"{what:12} torchvision {them:6.1f}/s, ours {us:6.1f}/s, ratio {ratio(times[slow], times[fast])}",
            flush=True,
        )


def main() -> None:
    """Measure small and large photos, and print the speeds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(f"{'with' if find_spec('simplejpeg') else 'without'} simplejpeg, torch {torch.__version__}")
    compare((800, 600), 128, arguments.rounds)
    compare((4000, 3000), 32, arguments.rounds)


if __name__ == "__main__":
    main()
