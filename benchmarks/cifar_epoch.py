"""One CIFAR-10 epoch of the 119k model, training and test evaluation: ours against a plain implementation.

    uv run python benchmarks/cifar_epoch.py PATH/TO/cifar10

The folder has train/ and test/ with one subfolder per class. Both train the same architecture with AdamW, batch 256,
fp32, random crop with padding 4 and flips. The plain one is what tutorials write: explicit softmax, torchvision's transforms on
single images, a DataLoader with 2 workers. Every image is decoded before the clock starts, in both. Rounds alternate; the ratio of medians is printed (above 1: ours is faster).
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from vitcli.core.config import AugmentConfig, ModelChoice, OptimConfig
from vitcli.core.events import EpochRecord, ignore
from vitcli.core.interrupts import StopRequest
from vitcli.core.preprocessing import Preprocessing
from vitcli.data.augment import TrainTransform
from vitcli.data.cache import PreparedSplit, channel_statistics
from vitcli.data.dataset import open_dataset
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.data.store import data_dir
from vitcli.engine.device import Precision
from vitcli.engine.mixing import Mixing
from vitcli.engine.trainer import Trainer
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer

BATCH = 256
LR = 2e-3
CPU = torch.device("cpu")


class PlainBlock(nn.Module):
    """A pre-norm block with the softmax written out."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        weights = (torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(width // self.heads)).softmax(dim=-1)
        x = x + self.out(torch.matmul(weights, v).transpose(1, 2).contiguous().view(batch, length, width))
        return x + self.mlp(self.norm2(x))


class PlainViT(nn.Module):
    """The same architecture as vit-nano-patch4, written plainly."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 4, stride=4)
        self.positions = nn.Parameter(torch.randn(1, 64, 48) * 0.02)
        self.blocks = nn.Sequential(*(PlainBlock(48, 4, 192) for _ in range(4)))
        self.norm, self.head = nn.LayerNorm(48), nn.Linear(48, 10)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, 10)."""
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.positions
        return self.head(self.norm(self.blocks(tokens).mean(dim=1)))


class PlainImages(Dataset[tuple[Tensor, int]]):
    """Decoded images, transformed one by one."""

    def __init__(self, split: PreparedSplit, transform: Callable[[Image.Image], Tensor]) -> None:
        self.arrays = np.ascontiguousarray(split.images.numpy().transpose(0, 2, 3, 1))
        self.labels = split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def plain_epoch(train: PreparedSplit, test: PreparedSplit) -> float:
    """Seconds of one epoch and one evaluation."""
    steps = [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    augment = [transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip()]
    train_loader = DataLoader(
        PlainImages(train, transforms.Compose([*augment, *steps])), batch_size=BATCH, shuffle=True, num_workers=2
    )
    test_loader = DataLoader(PlainImages(test, transforms.Compose(steps)), batch_size=BATCH, num_workers=2)
    torch.manual_seed(0)
    model = PlainViT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR)
    started = time.perf_counter()
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()
    model.eval()
    with torch.no_grad():
        correct = sum((model(images).argmax(dim=1) == labels).sum().item() for images, labels in test_loader)
    assert correct > 0
    return time.perf_counter() - started


class NoSaver:
    """Keeps nothing."""

    def save_epoch(self, weights: dict[str, Tensor], records: list[EpochRecord]) -> None:
        """Nothing."""

    def save_interrupted(self, weights: dict[str, Tensor], epoch: int, step: int) -> None:
        """Nothing."""


def our_epoch(train: PreparedSplit, test: PreparedSplit, preprocessing: Preprocessing) -> tuple[float, float]:
    """Seconds of one epoch and one evaluation, and the share of the training that went into data."""
    torch.manual_seed(0)
    model = VisionTransformer(
        model_config(ModelChoice(name="vit-nano-patch4"), image_size=(32, 32), in_channels=3, num_classes=10)
    )
    to_input = InputTransform(preprocessing, CPU)
    augment = TrainTransform(AugmentConfig(crop_padding=4, flip=0.5), to_input)
    started = time.perf_counter()
    trainer = Trainer(
        model,
        train=Batches(train.images, train.labels, batch_size=BATCH, transform=augment, device=CPU),
        val=Batches(test.images, test.labels, batch_size=BATCH, transform=to_input, device=CPU),
        config=OptimConfig(epochs=1, batch_size=BATCH, optimizer="adamw", lr=LR),
        mixing=Mixing(mixup=0, cutmix=0, seed=0),
        precision=Precision(CPU, amp="off", dtype="bfloat16"),
        saver=NoSaver(),
        emit=ignore,
        stop=StopRequest(),
        seed=0,
    )
    records = trainer.fit()
    return time.perf_counter() - started, records[0].data_share


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=50_000, help="training images; a fifth as many are evaluated")
    arguments = parser.parse_args()
    dataset = open_dataset(arguments.folder, directory=data_dir(), test_fraction=0.2, emit=ignore)
    geometry = dataset.facts.native_geometry
    assert geometry is not None
    assert geometry.size == (32, 32), geometry
    members = np.random.default_rng(0).permutation(dataset.facts.counts["train"])[: arguments.images]
    train = dataset.split("train", geometry).take(members)
    test = dataset.split("test", geometry).take(np.arange(min(10_000, arguments.images // 5)))
    mean, std = channel_statistics(train.images, np.arange(len(train.labels)))
    preprocessing = Preprocessing(geometry=geometry, image_size=geometry.size, mean=mean, std=std)
    ours, plain, shares = [], [], []
    for _ in range(arguments.rounds):
        seconds, share = our_epoch(train, test, preprocessing)
        ours.append(seconds)
        shares.append(share)
        plain.append(plain_epoch(train, test))
        print(f"vit {ours[-1]:6.1f} s ({100 * share:.1f} % of it data)    plain {plain[-1]:6.1f} s", flush=True)
    print(f"{len(train.labels):,} training and {len(test.labels):,} test images, torch {torch.__version__}")
    print(f"data and augmentation: {100 * statistics.median(shares):.1f} % of the training time")
    print(f"ratio {statistics.median(plain) / statistics.median(ours):.2f}")


if __name__ == "__main__":
    main()
