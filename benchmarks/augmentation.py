"""Compare our augmentation of batches with torchvision's v2 transforms of single images in 2 DataLoader workers.

    uv run python benchmarks/augmentation.py

Both start from the same uint8 images in memory, without decoding, and return shuffled, normalised float batches. The
workers are started in advance, and are idle while ours runs. Rounds alternate, so that other work on the machine
affects both in the same way. The ratio of the medians is printed (above 1: ours is faster).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data.augment import TrainTransform
from vitcli.data.preprocess import InputTransform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One augmentation, configured for both implementations."""

    name: str
    stored: tuple[int, int]
    size: int
    batch: int
    ours: AugmentConfig
    theirs: Sequence[nn.Module]
    wanted: float


CASES = (
    Case(
        name="crop after padding, flip",
        stored=(32, 32),
        size=32,
        batch=256,
        ours=AugmentConfig(crop_padding=4, flip=0.5),
        theirs=(v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip()),
        wanted=3,
    ),
    Case(
        name="resized crop, flip, four colour changes",
        stored=(32, 32),
        size=32,
        batch=256,
        ours=AugmentConfig(crop_scale=0.08, flip=0.5, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
        theirs=(v2.RandomResizedCrop(32), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4, 0.1)),
        wanted=3,
    ),
    Case(
        name="photos: resized crop, both flips, two colour changes",
        stored=(384, 512),
        size=384,
        batch=32,
        ours=AugmentConfig(crop_scale=0.08, flip=0.5, vertical_flip=0.5, brightness=0.2, contrast=0.2),
        theirs=(
            v2.RandomResizedCrop(384),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            v2.ColorJitter(0.2, 0.2),
        ),
        wanted=1.5,
    ),
    Case(
        name="TrivialAugment after crop and flip",
        stored=(32, 32),
        size=32,
        batch=256,
        ours=AugmentConfig(crop_padding=4, flip=0.5, policy="trivial"),
        theirs=(
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR),
        ),
        wanted=3,
    ),
)


class SingleImages(Dataset[Tensor]):
    """A data set that transforms its images one by one."""

    def __init__(self, images: Tensor, changes: Sequence[nn.Module]) -> None:
        self.images = images
        self.change = v2.Compose([*changes, v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        changed: Tensor = self.change(self.images[index])
        return changed


def our_transform(case: Case) -> TrainTransform:
    """Build our transform as training does."""
    size = (case.size, case.size)
    geometry = Geometry(size=case.stored, channels=3)
    preprocessing = Preprocessing(geometry=geometry, image_size=size, mean=MEAN, std=STD)
    return TrainTransform(case.ours, InputTransform(preprocessing, torch.device("cpu")))


def our_epoch(transform: TrainTransform, images: Tensor, batch: int, seed: int) -> Iterator[Tensor]:
    """Yield shuffled and augmented batches."""
    generator = torch.Generator().manual_seed(seed)
    for members in torch.randperm(len(images), generator=generator).split(batch):
        yield transform(images.index_select(0, members), generator)


def compare(case: Case, *, rounds: int, batches: int) -> tuple[float, float]:
    """Measure the median seconds per batch: ours, theirs."""
    images = torch.randint(256, (case.batch * batches, 3, *case.stored), dtype=torch.uint8)
    transform = our_transform(case)
    theirs = DataLoader(
        SingleImages(images, case.theirs), batch_size=case.batch, shuffle=True, num_workers=2, persistent_workers=True
    )
    passes: dict[str, Callable[[int], Iterable[Tensor]]] = {
        "ours": lambda seed: our_epoch(transform, images, case.batch, seed),
        "theirs": lambda _seed: theirs,
    }
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for number in range(rounds + 1):
        for name, epoch in passes.items():
            started = time.perf_counter()
            for inputs in epoch(number):
                assert inputs.shape == (case.batch, 3, case.size, case.size)
            if number:  # the first round warms up
                seconds[name].append((time.perf_counter() - started) / batches)
    return statistics.median(seconds["ours"]), statistics.median(seconds["theirs"])


def main() -> None:
    """Measure all cases, and print the times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=8, help="per round")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, milliseconds per batch")
    for case in CASES:
        ours, theirs = compare(case, rounds=arguments.rounds, batches=arguments.batches)
        what = f"{case.batch} x {case.size} px, {case.name}"
        print(
            f"{what:68} ours {1000 * ours:7.1f}  torchvision {1000 * theirs:7.1f}"
            f"  ratio {theirs / ours:5.2f} (at least {case.wanted:g})",
            flush=True,
        )


if __name__ == "__main__":
    main()
