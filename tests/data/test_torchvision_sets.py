"""The data sets that torchvision fetches: its own classes, from a server on this machine, with tiny files."""

import gc
import gzip
import hashlib
import io
import json
import pickle
import shutil
import struct
import tarfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision import datasets

from tests.servers.files import serving
from vitcli.core.config import DataConfig
from vitcli.core.preprocessing import Geometry
from vitcli.data.dataset import open_dataset

TRAIN, TEST = 20, 10
"""Images: two and one of each of ten classes."""
Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def pixels(count: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, *shape), dtype=np.uint8)


def labels(count: int) -> list[int]:
    return [index % 10 for index in range(count)]


def idx(array: NDArray[np.uint8]) -> bytes:
    """The format of the MNIST files: magic number, sizes, bytes."""
    header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), mtime=0)


def mnist_files() -> dict[str, bytes]:
    return {
        "train-images-idx3-ubyte.gz": idx(pixels(TRAIN, 28, 28)),
        "train-labels-idx1-ubyte.gz": idx(np.array(labels(TRAIN), dtype=np.uint8)),
        "t10k-images-idx3-ubyte.gz": idx(pixels(TEST, 28, 28)),
        "t10k-labels-idx1-ubyte.gz": idx(np.array(labels(TEST), dtype=np.uint8)),
    }


def use_mnist(patch: pytest.MonkeyPatch, kind: Any, address: str, files: Mapping[str, bytes]) -> None:
    """Let a class of torchvision expect these files at this address."""
    patch.setattr(kind, "mirrors", [address])
    patch.setattr(kind, "resources", [(name, md5(content)) for name, content in files.items()])


def cifar_batches(kind: Any) -> dict[str, bytes]:
    """The pickled batches of a CIFAR class, by file name."""
    key = "fine_labels" if kind is datasets.CIFAR100 else "labels"
    images, targets = pixels(TRAIN, 3 * 32 * 32), labels(TRAIN)
    names = [name for name, _ in kind.train_list]
    share = TRAIN // len(names)
    batches: dict[str, Any] = {
        name: {"data": images[start : start + share], key: targets[start : start + share]}
        for name, start in zip(names, range(0, TRAIN, share), strict=True)
    }
    batches[kind.test_list[0][0]] = {"data": pixels(TEST, 3 * 32 * 32), key: labels(TEST)}
    batches[kind.meta["filename"]] = {kind.meta["key"]: [f"kind {index}" for index in range(10)]}
    return {name: pickle.dumps(content) for name, content in batches.items()}


def tar_gz(folder: str, files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def use_cifar(patch: pytest.MonkeyPatch, kind: Any, address: str, archive: bytes) -> None:
    files = cifar_batches(kind)
    patch.setattr(kind, "url", address + kind.filename)
    patch.setattr(kind, "tgz_md5", md5(archive))
    patch.setattr(kind, "train_list", [[name, md5(files[name])] for name, _ in kind.train_list])
    patch.setattr(kind, "test_list", [[name, md5(files[name])] for name, _ in kind.test_list])
    patch.setattr(kind, "meta", {**kind.meta, "md5": md5(files[kind.meta["filename"]])})


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def assert_nothing_stays(directory: Path) -> None:
    """No file, and no folder that would be taken for a download or a prepared data set."""
    assert files_below(directory) == []
    for place in ("downloads", "prepared"):
        assert not (directory / place).is_dir() or list((directory / place).iterdir()) == []


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of this test's own."""
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.mark.parametrize(("name", "kind"), [("mnist", datasets.MNIST), ("fashion-mnist", datasets.FashionMNIST)])
def test_idx_files_are_downloaded_verified_and_prepared(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path, name: str, kind: Any
) -> None:
    files = mnist_files()
    with serving(files) as address:
        use_mnist(monkeypatch, kind, address, files)
        outcome = run_cli("download", name, "--json")
    assert outcome.code == 0, outcome.err
    assert "downloading" in outcome.err
    result = json.loads(outcome.out)
    assert result["images"] == {"train": TRAIN, "test": TEST}
    assert not result["was_there"]
    dataset = open_dataset(DataConfig(name=name), directory=store)
    split = dataset.split("train", Geometry(size=(28, 28), channels=1, resize="squash"))
    assert np.array_equal(split.images.numpy()[:, 0], pixels(TRAIN, 28, 28))
    assert split.labels.tolist() == labels(TRAIN)
    assert all(" - " not in each for each in dataset.facts.classes)
    assert len(set(dataset.facts.classes)) == 10
    assert dataset.facts.classes[0] == ("0" if name == "mnist" else "T-shirt/top")


@pytest.mark.parametrize("kind", [datasets.CIFAR10, datasets.CIFAR100])
def test_an_archive_is_downloaded_verified_and_prepared(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path, kind: Any
) -> None:
    name, archive = kind.__name__.lower(), tar_gz(kind.base_folder, cifar_batches(kind))
    with serving({kind.filename: archive}) as address:
        use_cifar(monkeypatch, kind, address, archive)
        outcome = run_cli("download", name)
        assert outcome.code == 0, outcome.err
        dataset = open_dataset(DataConfig(name=name), directory=store)
    split = dataset.split("test", Geometry(size=(32, 32), channels=3, resize="squash"))
    assert np.array_equal(split.images.numpy(), pixels(TEST, 3 * 32 * 32).reshape(TEST, 3, 32, 32))
    assert dataset.facts.classes == tuple(f"kind {index}" for index in range(10))
    assert f"{TRAIN} train, {TEST} test" in outcome.out
    assert "vit train" in outcome.err


def test_the_second_download_needs_no_server_and_training_takes_the_one_asked_for_last(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path, tiny: tuple[str, ...]
) -> None:
    files, archive = mnist_files(), tar_gz(datasets.CIFAR10.base_folder, cifar_batches(datasets.CIFAR10))
    with serving({**files, datasets.CIFAR10.filename: archive}) as address:
        use_mnist(monkeypatch, datasets.MNIST, address, files)
        use_cifar(monkeypatch, datasets.CIFAR10, address, archive)
        assert run_cli("download", "cifar10").code == 0
        assert run_cli("download", "mnist").code == 0
    assert "already there" in run_cli("download", "cifar10").out
    present = {row["name"]: row["present"] for row in json.loads(run_cli("datasets", "--json").out)}
    assert {name for name, is_there in present.items() if is_there} == {"digits", "mnist", "cifar10"}
    trained = run_cli("train", *tiny, "--val-fraction", "0.5", "--json")
    assert trained.code == 0, trained.err
    assert "training on cifar10 (downloaded last)" in trained.err
    assert json.loads(trained.out)["dataset"] == "cifar10"
    assert store.is_dir()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # torchvision leaves the socket of a 404 to the collector
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("fault", ["wrong checksum", "404", "cut in mid-file", "cut between chunks"])
def test_a_download_that_fails_is_reported_and_leaves_nothing(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path, name: str, fault: str
) -> None:
    archive = tar_gz(datasets.CIFAR10.base_folder, cifar_batches(datasets.CIFAR10))
    files = {**mnist_files(), datasets.CIFAR10.filename: archive}
    victim = datasets.CIFAR10.filename if name == "cifar10" else "t10k-images-idx3-ubyte.gz"  # the third of four
    served = {key: content for key, content in files.items() if not (fault == "404" and key == victim)}
    if fault == "wrong checksum":
        served[victim] = files["train-images-idx3-ubyte.gz"]
    cut = [victim] if fault == "cut in mid-file" else []
    cut_chunked = [victim] if fault == "cut between chunks" else []
    with serving(served, cut=cut, cut_chunked=cut_chunked) as address:
        use_mnist(monkeypatch, datasets.MNIST, address, mnist_files())
        use_cifar(monkeypatch, datasets.CIFAR10, address, archive)
        outcome = run_cli("download", name)
        assert outcome.code == 1
        assert f"{name} could not be downloaded" in outcome.err
        assert f"vit download {name}" in outcome.err
        assert "Traceback" not in outcome.err
        assert outcome.out == ""
        assert_nothing_stays(store)
    gc.collect()


def test_after_a_failure_the_next_download_succeeds(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    files = mnist_files()
    with serving(files, cut=["t10k-labels-idx1-ubyte.gz"]) as address:
        use_mnist(monkeypatch, datasets.MNIST, address, files)
        assert run_cli("download", "mnist").code == 1
    with serving(files) as address:
        use_mnist(monkeypatch, datasets.MNIST, address, files)
        assert run_cli("download", "mnist").code == 0
    assert (store / "prepared" / "mnist" / "facts-1.json").is_file()


def test_a_server_that_is_not_there_is_reported(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    with serving({}) as address:
        pass
    use_mnist(monkeypatch, datasets.MNIST, address, mnist_files())
    outcome = run_cli("train", "mnist")
    assert outcome.code == 1
    assert "mnist could not be downloaded" in outcome.err
    assert "check the network" in outcome.err
    assert_nothing_stays(store)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_download_that_was_damaged_on_disk_is_mended_by_what_the_hint_says(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path, name: str
) -> None:
    """The prepared images are gone and a downloaded file is short: `vit download NAME` again must help."""
    archive = tar_gz(datasets.CIFAR10.base_folder, cifar_batches(datasets.CIFAR10))
    with serving({**mnist_files(), datasets.CIFAR10.filename: archive}) as address:
        use_mnist(monkeypatch, datasets.MNIST, address, mnist_files())
        use_cifar(monkeypatch, datasets.CIFAR10, address, archive)
        assert run_cli("download", name).code == 0
        (store / "prepared" / name / "facts-1.json").unlink()
        for path in files_below(store / "downloads"):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        damaged = run_cli("download", name)
        if damaged.code:  # CIFAR's checksums mend it at once; MNIST's are looked at on download only
            assert "remove that folder" in damaged.err
            shutil.rmtree(store / "downloads" / name)
        again = run_cli("download", name)
    assert again.code == 0, again.err
