"""The table of data sets by name; importing it does not import torch.

An entry names the function that reads the data set; this function is imported on first use. ``kaggle:OWNER/NAME`` and
``kaggle:COMPETITION`` name data sets that are not in the table.
"""

from vitcli.core.files import expanded
from vitcli.core.registry import Registry
from vitcli.data.dataset_entry import DatasetEntry
from vitcli.data.sources.kaggle_reference import PREFIX, KaggleReference, is_address

_TORCHVISION = "vitcli.data.sources.torchvision_sets:read"
_KAGGLE = "vitcli.data.sources.kaggle:read"

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
        "shapes": DatasetEntry(
            summary="drawn shapes on blobs (bundled)",
            source="vitcli.data.sources.bundled:read_shapes",
            recipe="shapes",
            num_classes=8,
            num_images=(6_000, 1_000),
            image_size=(32, 32),
            licence="CC0",
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
            hub="ylecun/mnist",
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
            hub="zalando-datasets/fashion_mnist",
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
            hub="uoft-cs/cifar10",
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
            hub="uoft-cs/cifar100",
        ),
        "svhn": DatasetEntry(
            summary="house numbers",
            source=_TORCHVISION,
            torchvision_class="SVHN",
            recipe="small-images",
            num_classes=10,
            num_images=(73_257, 26_032),
            image_size=(32, 32),
            download_mb=246,
            licence="non-commercial",
            hub="ufldl-stanford/svhn",
        ),
        "stl10": DatasetEntry(
            summary="photos of 10 kinds",
            source=_TORCHVISION,
            torchvision_class="STL10",
            num_classes=10,
            num_images=(5_000, 8_000),
            image_size=(96, 96),
            download_mb=2_640,
            licence="not stated",
        ),
        "eurosat": DatasetEntry(
            summary="land from above",
            source=_TORCHVISION,
            torchvision_class="EuroSAT",
            recipe="small-images",
            num_classes=10,
            num_images=(27_000, 0),
            image_size=(64, 64),
            download_mb=94,
            licence="MIT",
        ),
        "flowers102": DatasetEntry(
            summary="flowers of Britain",
            source=_TORCHVISION,
            torchvision_class="Flowers102",
            num_classes=102,
            num_images=(2_040, 6_149),
            download_mb=345,
            licence="not stated",
        ),
        "oxford-pets": DatasetEntry(
            summary="breeds of cats and dogs",
            source=_TORCHVISION,
            torchvision_class="OxfordIIITPet",
            num_classes=37,
            num_images=(3_680, 3_669),
            download_mb=811,
            licence="CC BY-SA 4.0",
        ),
        "food101": DatasetEntry(
            summary="dishes",
            source=_TORCHVISION,
            torchvision_class="Food101",
            num_classes=101,
            num_images=(75_750, 25_250),
            download_mb=4_996,
            licence="not stated",
            hub="ethz/food101",
        ),
        "cassava": DatasetEntry(
            summary="diseases of cassava leaves",
            source=_KAGGLE,
            kaggle="cassava-leaf-disease-classification",
            recipe="cassava",
            num_classes=5,
            num_images=(21_397, 0),
            image_size=(600, 800),
            download_mb=5_800,
            licence="see Kaggle",
        ),
        "butterflies": DatasetEntry(
            summary="butterflies and moths",
            source=_KAGGLE,
            kaggle="gpiosenka/butterfly-images40-species",
            recipe="butterflies",
            num_classes=100,
            num_images=(13_094, 500),
            image_size=(224, 224),
            download_mb=420,
            licence="CC0",
        ),
    },
    listing="vit datasets",
)


def full_name(text: str) -> str:
    """Convert the address of a page on Kaggle to the name of its data set; return any other text unchanged.

    Raises:
        UsageError: the page is not that of a data set or a competition.
    """
    return str(KaggleReference.parse(text)) if is_address(text) else text


def find_dataset(name: str) -> DatasetEntry | None:
    """Return the entry of a data set in the table or on Kaggle; None if the name is neither.

    Raises:
        UsageError: the name begins with ``kaggle:``, but is not valid.
    """
    if name in DATASETS:
        return DATASETS[name]
    if name.startswith(PREFIX):
        return DatasetEntry(summary="from Kaggle", source=_KAGGLE, kaggle=str(KaggleReference.parse(name)))
    return None


def canonical_name(name: str) -> str:
    """Return the full name of a data set, or the absolute path of a folder, for use in any working directory."""
    name = full_name(name)
    return name if find_dataset(name) else str(expanded(name).resolve())
