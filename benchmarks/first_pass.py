"""Compare reading JPEG photos, once into the cache and then in batches from it, with torchvision's usual pipeline.

    uv run python benchmarks/first_pass.py

torchvision's pipeline is ImageFolder, RandomResizedCrop(384), ToTensor and Normalize, again in every epoch. Ours
decodes every photo once (with simplejpeg, an extra, if it is installed), for a model of 384 pixels, and writes a file
of bytes. Later epochs take their batches from this file (before augmentation, which benchmarks/augmentation.py
measures). Both run on one core. The medians of alternating passes are printed in images/s, and their ratios (above 1:
ours is faster).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import datasets, transforms

from vitcli.core.config import DataConfig
from vitcli.core.preprocessing import Geometry
from vitcli.data.dataset import open_dataset

BATCH = 32
DIFFERENT = 12


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


def seconds(work: Callable[[], object]) -> float:
    """Measure the seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare(size: tuple[int, int], count: int, rounds: int) -> None:
    """Measure photos of one size, and print the speeds and ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(folder / "photos", size, count)
        kilobytes = sum(file.stat().st_size for file in (folder / "photos").rglob("*.jpg")) / count / 1000
        usual = transforms.Compose(
            [transforms.RandomResizedCrop(384), transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
        )
        plain = datasets.ImageFolder(str(folder / "photos" / "train"), usual)
        config = DataConfig(name=str(folder / "photos"), workers=1, cache="disk")
        geometry = Geometry(size=(384, 512), channels=3)
        times: dict[str, list[float]] = {"torchvision": [], "first": [], "later": []}
        for number in range(rounds):
            times["torchvision"].append(seconds(lambda: [plain[index] for index in range(count)]))
            dataset = open_dataset(config, directory=folder / f"data-{number}")
            times["first"].append(seconds(lambda: dataset.split("train", geometry)))  # noqa: B023
            images = dataset.split("train", geometry).images
            order = torch.randint(count, (20, BATCH), generator=torch.Generator().manual_seed(number))
            assert isinstance(images, torch.Tensor)
            gather = images.index_select
            times["later"].append(seconds(lambda: [gather(0, batch) for batch in order]))  # noqa: B023
    rates = {
        what: (count if what != "later" else 20 * BATCH) / statistics.median(values) for what, values in times.items()
    }
    base = rates["torchvision"]
    print(
        f"{size[0]}x{size[1]} ({kilobytes:,.0f} KB): torchvision {base:,.0f} images/s; first pass {rates['first']:,.0f}, "
        f"ratio {rates['first'] / base:.2f}; later {rates['later']:,.0f}, ratio {rates['later'] / base:.0f}"
    )


def main() -> None:
    """Measure small and large photos, and print the speeds and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    compare((800, 600), 240, arguments.rounds)
    compare((4000, 3000), 48, arguments.rounds)


if __name__ == "__main__":
    main()
