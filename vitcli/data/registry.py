"""Data sets by name: a table without torch.

An entry names the function that reads the data set, which is imported on first use.
"""

from dataclasses import dataclass

from vitcli.core.registry import Registry


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetEntry:
    """A data set that ``vit`` knows by name."""

    summary: str
    source: str
    """``module:function``; the function takes the entry and a folder for downloads and returns a RawDataset."""
    torchvision_class: str = ""
    recipe: str
    """What ``vit train`` uses where no recipe is asked for."""
    num_classes: int
    num_images: tuple[int, int]
    """Images for training and for testing."""
    image_size: tuple[int, int]
    download_mb: int
    licence: str


_TORCHVISION = "vitcli.data.sources.torchvision_sets:read"

DATASETS: Registry[DatasetEntry] = Registry(
    "data set",
    {
        "digits": DatasetEntry(
            summary="handwritten digits (bundled)",
            source="vitcli.data.sources.bundled:read_digits",
            recipe="digits",
            num_classes=10,
            num_images=(1438, 359),
            image_size=(8, 8),
            download_mb=0,
            licence="CC BY 4.0",
        ),
        "mnist": DatasetEntry(
            summary="handwritten digits",
            source=_TORCHVISION,
            torchvision_class="MNIST",
            recipe="mnist",
            num_classes=10,
            num_images=(60_000, 10_000),
            image_size=(28, 28),
            download_mb=12,
            licence="CC BY-SA 3.0",
        ),
        "fashion-mnist": DatasetEntry(
            summary="clothes",
            source=_TORCHVISION,
            torchvision_class="FashionMNIST",
            recipe="mnist",
            num_classes=10,
            num_images=(60_000, 10_000),
            image_size=(28, 28),
            download_mb=31,
            licence="MIT",
        ),
        "cifar10": DatasetEntry(
            summary="tiny photos of 10 kinds",
            source=_TORCHVISION,
            torchvision_class="CIFAR10",
            recipe="small-images",
            num_classes=10,
            num_images=(50_000, 10_000),
            image_size=(32, 32),
            download_mb=170,
            licence="not stated",
        ),
        "cifar100": DatasetEntry(
            summary="tiny photos of 100 kinds",
            source=_TORCHVISION,
            torchvision_class="CIFAR100",
            recipe="small-images",
            num_classes=100,
            num_images=(50_000, 10_000),
            image_size=(32, 32),
            download_mb=169,
            licence="not stated",
        ),
    },
    listing="vit datasets",
)
