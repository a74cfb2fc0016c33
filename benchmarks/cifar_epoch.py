"""Compare one CIFAR-10 epoch, training and test evaluation, of ``vit``'s recipe ``cifar10-classic`` with plain code.

    uv run python benchmarks/cifar_epoch.py PATH/TO/cifar10
    uv run python benchmarks/cifar_epoch.py PATH/TO/cifar10 --rounds 1 --epochs 20  # also: do both learn as much?

The folder has train/ and test/ with one subfolder per class. Both train the 119,098 parameters of vit-cifar10-classic
with AdamW at 0.01, batch 256, fp32, flips and random resized crops. The plain code is typical of tutorials: softmax
and tanh GELU from their formulas, torchvision's transforms on single images, a DataLoader with 2 workers. In both,
every image is decoded before the clock starts. Rounds alternate; the ratio of the medians is printed (above 1: ours
is faster), and with several epochs the mean test accuracy of the last five.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from vitcli.core.config import DataConfig
from vitcli.core.config_files import configure, load_recipe
from vitcli.core.events import ignore
from vitcli.core.interrupts import StopRequest
from vitcli.core.preprocessing import Preprocessing
from vitcli.data.augment import TrainTransform
from vitcli.data.cache import PreparedSplit
from vitcli.data.dataset import open_dataset
from vitcli.data.loader import Batches
from vitcli.data.preprocess import InputTransform
from vitcli.data.store import data_dir
from vitcli.engine.autocast import Precision
from vitcli.engine.mixing import Mixing
from vitcli.engine.state import State
from vitcli.engine.trainer import Trainer
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer

CONFIG = configure(load_recipe("cifar10-classic"), {"optim": {"epochs": 1}})
BATCH = CONFIG.optim.batch_size
CPU = torch.device("cpu")
_LAST = 5
"""The last epochs whose accuracies are averaged: at a constant rate, those of single epochs differ by a point or two."""


class PlainGELU(nn.Module):
    """The tanh approximation, from its formula (Hendrycks & Gimpel 2016)."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute the activation of a tensor of any shape."""
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


class PlainBlock(nn.Module):
    """A pre-norm block that computes the softmax attention step by step."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), PlainGELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """Run tokens through the block, (B, N, D) -> (B, N, D)."""
        batch, length, width = x.shape
        parts = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        q, k, v = (part.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for part in parts)
        weights = (torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(width // self.heads)).softmax(dim=-1)
        x = x + self.out(torch.matmul(weights, v).transpose(1, 2).contiguous().view(batch, length, width))
        output: Tensor = x + self.mlp(self.norm2(x))
        return output


class PlainViT(nn.Module):
    """The architecture of vit-cifar10-classic."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 4, stride=4)
        self.class_token = nn.Parameter(torch.randn(1, 1, 48) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 65, 48) * 0.02)
        self.blocks = nn.Sequential(*(PlainBlock(48, 4, 192) for _ in range(4)))
        self.head = nn.Linear(48, 10)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of images, (B, 3, 32, 32) -> (B, 10)."""
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), tokens], dim=1) + self.positions
        logits: Tensor = self.head(self.blocks(tokens)[:, 0])
        return logits


class PlainImages(Dataset[tuple[Tensor, int]]):
    """A data set of decoded images that are transformed one by one."""

    def __init__(self, split: PreparedSplit, transform: Callable[[Image.Image], Tensor]) -> None:
        self.arrays = np.ascontiguousarray(split.as_array().transpose(0, 2, 3, 1))
        self.labels = split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[index])), self.labels[index]


def plain_epochs(train: PreparedSplit, test: PreparedSplit, epochs: int) -> tuple[float, list[float]]:
    """Train with plain code; return the seconds, and the test accuracy after each epoch, 0..1."""
    steps = [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
    augment = [transforms.RandomHorizontalFlip(), transforms.RandomResizedCrop(32, scale=(0.8, 1.0))]
    train_loader = DataLoader(
        PlainImages(train, transforms.Compose([*augment, *steps])), batch_size=BATCH, shuffle=True, num_workers=2
    )
    test_loader = DataLoader(PlainImages(test, transforms.Compose(steps)), batch_size=BATCH, num_workers=2)
    torch.manual_seed(0)
    model = PlainViT()
    optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG.optim.lr)
    started, accuracies = time.perf_counter(), list[float]()
    for _ in range(epochs):
        for images, labels in train_loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            loss.item()
        with torch.no_grad():
            correct = sum((model(images).argmax(dim=1) == labels).sum().item() for images, labels in test_loader)
        accuracies.append(correct / len(test.labels))
    return time.perf_counter() - started, accuracies


class NoSaver:
    """A saver that saves nothing."""

    def save_epoch(self, state: State) -> None:
        """Do nothing."""

    def save_step(self, state: State) -> None:
        """Do nothing."""


def our_epochs(
    train: PreparedSplit, test: PreparedSplit, preprocessing: Preprocessing, epochs: int
) -> tuple[float, list[float], float]:
    """Train with ``vit``; return the seconds, the test accuracies, and the share of data in the training time."""
    torch.manual_seed(0)
    model = VisionTransformer(model_config(CONFIG.model, image_size=(32, 32), in_channels=3, num_classes=10))
    to_input = InputTransform(preprocessing, CPU)
    augment = TrainTransform(CONFIG.augment, to_input)
    started = time.perf_counter()
    trainer = Trainer(
        model,
        train=Batches(train.images, train.labels, batch_size=BATCH, transform=augment, device=CPU),
        val=Batches(test.images, test.labels, batch_size=BATCH, transform=to_input, device=CPU),
        config=replace(CONFIG.optim, epochs=epochs),
        mixing=Mixing(mixup=0, cutmix=0, seed=0),
        precision=Precision(CPU, amp="off", dtype="bfloat16"),
        saver=NoSaver(),
        emit=ignore,
        stop=StopRequest(),
        seed=0,
    )
    records = trainer.fit()
    seconds = time.perf_counter() - started
    shares = [record.data_share for record in records]
    return seconds, [record.val_accuracy for record in records], statistics.median(shares)


def show(name: str, seconds: float, accuracies: list[float]) -> None:
    """Print the seconds of one side, and its test accuracies, 0..1."""
    last = accuracies[-_LAST:]
    mean, each = statistics.mean(last), ", ".join(f"{100 * accuracy:.2f}" for accuracy in accuracies)
    print(
        f"{name:<5} {seconds:6.1f} s, test accuracy of the last {len(last)} epochs {100 * mean:.2f} % ({each})",
        flush=True,
    )


def main() -> None:
    """Measure both, and print the seconds and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--images", type=int, default=50_000, help="training images; a fifth as many are evaluated")
    arguments = parser.parse_args()
    dataset = open_dataset(DataConfig(name=arguments.folder), directory=data_dir())
    geometry = dataset.facts.native_geometry
    assert geometry is not None
    assert geometry.size == (32, 32), geometry
    members = np.random.default_rng(0).permutation(dataset.facts.counts["train"])[: arguments.images]
    train = dataset.split("train", geometry).take(members)
    test = dataset.split("test", geometry).take(np.arange(min(10_000, arguments.images // 5)))
    half = (0.5, 0.5, 0.5)
    preprocessing = Preprocessing(geometry=geometry, image_size=geometry.size, mean=half, std=half)
    ours, plain, shares = [], [], []
    for _ in range(arguments.rounds):
        seconds, learnt, share = our_epochs(train, test, preprocessing, arguments.epochs)
        ours.append(seconds)
        shares.append(share)
        show("vit", seconds, learnt)
        seconds, learnt = plain_epochs(train, test, arguments.epochs)
        plain.append(seconds)
        show("plain", seconds, learnt)
    print(f"{len(train.labels):,} training and {len(test.labels):,} test images, torch {torch.__version__}")
    print(f"data and augmentation: {100 * statistics.median(shares):.1f} % of the training time")
    print(f"ratio {statistics.median(plain) / statistics.median(ours):.2f}")


if __name__ == "__main__":
    main()
