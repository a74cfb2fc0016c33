"""Tiny files in the layouts of the data sets that torchvision fetches; its own classes, made to expect these files."""

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat
from torchvision import datasets
from torchvision.datasets import eurosat

Labels = dict[str, int]
"""Label by file name, below the folder of downloads."""


@dataclass(frozen=True, kw_only=True)
class TinySet:
    """Files to serve, by name, and what is in them."""

    files: Mapping[str, bytes]
    splits: Mapping[str, Labels]
    classes: Mapping[int, str]
    """Names of some classes."""
    num_classes: int


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def coloured(label: int, number: int, size: tuple[int, int] = (80, 60)) -> bytes:
    """A JPEG whose red is twice the label, and whose green is a number."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (2 * label, number, 90)).save(buffer, "JPEG", quality=100, subsampling=0)
    return buffer.getvalue()


def tar_gz(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def mat(**arrays: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, arrays)
    return buffer.getvalue()


# photos


def flowers102() -> TinySet:
    """Images are numbered; one file has the labels from 1, another the numbers of each split, in no order."""
    labels = [102, 1, 41] * 8
    numbers = {"train": [20, 3, 1, 9, 5, 22], "val": [2, 24, 7], "test": [15, 14, 13, 12, 11, 10]}
    images = {
        f"jpg/image_{number:05d}.jpg": coloured(label - 1, number) for number, label in enumerate(labels, start=1)
    }
    ids = {name: np.array([each], dtype=np.uint16) for name, each in numbers.items()}
    return TinySet(
        files={
            "102flowers.tgz": tar_gz(images),
            "imagelabels.mat": mat(labels=np.array([labels], dtype=np.uint8)),
            "setid.mat": mat(trnid=ids["train"], valid=ids["val"], tstid=ids["test"]),
        },
        splits={
            split: {f"flowers-102/jpg/image_{number:05d}.jpg": labels[number - 1] - 1 for number in each}
            for split, each in numbers.items()
        },
        classes={0: "pink primrose", 40: "barbeton daisy", 101: "blackberry lily"},
        num_classes=102,
    )


def use_flowers102(patch: pytest.MonkeyPatch, address: str, files: Mapping[str, bytes]) -> None:
    kinds = {"image": "102flowers.tgz", "label": "imagelabels.mat", "setid": "setid.mat"}
    patch.setattr(datasets.Flowers102, "_download_url_prefix", address)
    patch.setattr(datasets.Flowers102, "_file_dict", {kind: (name, md5(files[name])) for kind, name in kinds.items()})


def oxford_pets() -> TinySet:
    """Cats have capital letters; the images' folder has other files too, and labels count from 1."""
    breeds = {"Abyssinian": 0, "american_bulldog": 1, "Bengal": 2, "yorkshire_terrier": 3}
    named = {"trainval": range(100, 104), "test": range(1, 3)}
    images: dict[str, bytes] = {"images/Abyssinian_100.mat": b"MATLAB 5.0 MAT-file"}
    tables: dict[str, bytes] = {"annotations/README": b"", "annotations/trimaps/._Abyssinian_100.png": b"Mac OS X"}
    splits: dict[str, Labels] = {}
    for split, numbers in named.items():
        lines = []
        for number in numbers:
            for breed, label in breeds.items():
                images[f"images/{breed}_{number}.jpg"] = coloured(30 * label, number)
                lines.append(f"{breed}_{number} {label + 1} {1 if breed[0].isupper() else 2} 1\n")
                name = {"trainval": "train"}.get(split, split)
                splits.setdefault(name, {})[f"oxford-iiit-pet/images/{breed}_{number}.jpg"] = label
        tables[f"annotations/{split}.txt"] = "".join(lines).encode()
    return TinySet(
        files={"images.tar.gz": tar_gz(images), "annotations.tar.gz": tar_gz(tables)},
        splits=splits,
        classes={0: "Abyssinian", 1: "American Bulldog", 2: "Bengal", 3: "Yorkshire Terrier"},
        num_classes=4,
    )


def use_oxford_pets(patch: pytest.MonkeyPatch, address: str, files: Mapping[str, bytes]) -> None:
    resources = tuple((address + name, md5(content)) for name, content in files.items())
    patch.setattr(datasets.OxfordIIITPet, "_RESOURCES", resources)


def food101() -> TinySet:
    """Two JSON files name the images of each class, and not in the order of the classes."""
    dishes = {"waffles": 2, "apple_pie": 0, "ramen": 1}
    numbers = {"train": range(1000, 1004), "test": range(2000, 2002)}
    images = {
        f"food-101/images/{dish}/{number}.jpg": coloured(40 * label, number % 256)
        for each in numbers.values()
        for number in each
        for dish, label in dishes.items()
    }
    listed = {
        f"food-101/meta/{split}.json": json.dumps(
            {dish: [f"{dish}/{number}" for number in each] for dish in dishes}
        ).encode()
        for split, each in numbers.items()
    }
    return TinySet(
        files={"food-101.tar.gz": tar_gz({**images, **listed, "food-101/meta/classes.txt": b"apple_pie\n"})},
        splits={
            split: {f"food-101/images/{dish}/{number}.jpg": label for dish, label in dishes.items() for number in each}
            for split, each in numbers.items()
        },
        classes={0: "apple_pie", 1: "ramen", 2: "waffles"},
        num_classes=3,
    )


def use_food101(patch: pytest.MonkeyPatch, address: str, files: Mapping[str, bytes]) -> None:
    patch.setattr(datasets.Food101, "_URL", address + "food-101.tar.gz")
    patch.setattr(datasets.Food101, "_MD5", md5(files["food-101.tar.gz"]))


def eurosat_images() -> TinySet:
    """One folder per class, all images of one small size."""
    kinds = {"SeaLake": 2, "AnnualCrop": 0, "Forest": 1}
    names = {
        f"2750/{kind}/{kind}_{number}.jpg": (label, number) for kind, label in kinds.items() for number in range(6)
    }
    images = {name: coloured(40 * label, 20 * number, (64, 64)) for name, (label, number) in names.items()}
    return TinySet(
        files={"EuroSAT.zip": zipped(images)},
        splits={"train": {f"eurosat/{name}": label for name, (label, _) in names.items()}},
        classes={0: "AnnualCrop", 1: "Forest", 2: "SeaLake"},
        num_classes=3,
    )


def use_eurosat(patch: pytest.MonkeyPatch, address: str, files: Mapping[str, bytes]) -> None:
    """Address and checksum stand in the middle of a method: torchvision's function is given others."""
    fetch = eurosat.download_and_extract_archive

    def from_here(_url: str, download_root: str, md5: str) -> None:
        assert md5
        fetch(address + "EuroSAT.zip", download_root=download_root, md5=expected)

    expected = md5(files["EuroSAT.zip"])
    patch.setattr(eurosat, "download_and_extract_archive", from_here)


# arrays


def pixels(count: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def svhn(train: int = 40, test: int = 20) -> dict[str, bytes]:
    """MATLAB's files: (height, width, channels, images), and 10 for the digit 0."""
    return {
        f"{split}_32x32.mat": mat(
            X=pixels(count, 32, 32, 3).transpose(1, 2, 3, 0),
            y=np.array([[(number % 10) or 10] for number in range(count)], dtype=np.uint8),
        )
        for split, count in (("train", train), ("test", test))
    }


def use_svhn(patch: pytest.MonkeyPatch, address: str, files: Mapping[str, bytes]) -> None:
    listed = {name.split("_")[0]: [address + name, name, md5(content)] for name, content in files.items()}
    patch.setattr(datasets.SVHN, "split_list", {**datasets.SVHN.split_list, **listed})


STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


def stl10(train: int = 40, test: int = 20) -> dict[str, bytes]:
    """The one archive's files: bytes, column by column, and labels from 1."""
    numbers = {"train": train, "test": test, "unlabeled": 3}
    images = {
        f"{name}_X.bin": pixels(count, 3, 96, 96).transpose(0, 1, 3, 2).tobytes() for name, count in numbers.items()
    }
    labels = {f"{name}_y.bin": bytes(1 + number % 10 for number in range(numbers[name])) for name in ("train", "test")}
    return {
        **images,
        **labels,
        "class_names.txt": "\n".join(STL10_CLASSES).encode() + b"\n",
        "fold_indices.txt": b"0 1 2\n",
    }


def stl10_archive(files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {"stl10_binary.tar.gz": tar_gz({f"stl10_binary/{name}": content for name, content in files.items()})}


def use_stl10(patch: pytest.MonkeyPatch, address: str, files: Mapping[str, bytes]) -> None:
    inside = stl10()
    kind = datasets.STL10
    patch.setattr(kind, "url", address + kind.filename)
    patch.setattr(kind, "tgz_md5", md5(files[kind.filename]))
    patch.setattr(kind, "train_list", [[name, md5(inside[name])] for name, _ in kind.train_list])
    patch.setattr(kind, "test_list", [[name, md5(inside[name])] for name, _ in kind.test_list])
