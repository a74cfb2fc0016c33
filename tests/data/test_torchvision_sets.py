"""The data sets that torchvision fetches: its own classes, from a server on this machine, with tiny files."""

import gc
import gzip
import json
import pickle
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torchvision import datasets

from tests.builders.processes import exit_code, open_data_sets
from tests.servers import torchvision_files as tiny_files
from tests.servers.files import serving
from tests.servers.torchvision_files import TinySet, md5, pixels, tar_gz
from vitcli.core import fetch
from vitcli.core.config import DataConfig
from vitcli.core.preprocessing import Geometry
from vitcli.data.dataset import open_dataset
from vitcli.workflows.download import download

TRAIN, TEST = 20, 10
"""Images: two and one of each of ten classes."""
Serve = Callable[..., AbstractContextManager[str]]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


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


def cifar_archive(kind: Any) -> bytes:
    return tar_gz({f"{kind.base_folder}/{name}": content for name, content in cifar_batches(kind).items()})


def use_cifar(patch: pytest.MonkeyPatch, kind: Any, address: str, archive: bytes) -> None:
    files = cifar_batches(kind)
    patch.setattr(kind, "url", address + kind.filename)
    patch.setattr(kind, "tgz_md5", md5(archive))
    patch.setattr(kind, "train_list", [[name, md5(files[name])] for name, _ in kind.train_list])
    patch.setattr(kind, "test_list", [[name, md5(files[name])] for name, _ in kind.test_list])
    patch.setattr(kind, "meta", {**kind.meta, "md5": md5(files[kind.meta["filename"]])})


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and path.suffix != ".lock"]


def assert_nothing_stays(directory: Path) -> None:
    """Nothing that would be taken for a download or a prepared data set: a lock, and what to continue with, may stay."""
    for place in ("downloads", "prepared"):
        names = [path.name for path in (directory / place).glob("*")]
        assert all(name.startswith(".") and name.endswith((".lock", ".archives")) for name in names)


@pytest.fixture
def collected() -> Iterator[None]:
    """What the test leaves is collected within it; what was there before is not looked at, which would take long."""
    gc.freeze()
    yield
    gc.collect()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of this test's own."""
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path / "store"))
    monkeypatch.setattr(fetch, "_WAIT", 0.001)
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
    name, archive = kind.__name__.lower(), cifar_archive(kind)
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
    files, archive = mnist_files(), cifar_archive(datasets.CIFAR10)
    with serving({**files, datasets.CIFAR10.filename: archive}) as address:
        use_mnist(monkeypatch, datasets.MNIST, address, files)
        use_cifar(monkeypatch, datasets.CIFAR10, address, archive)
        assert run_cli("download", "cifar10").code == 0
        assert run_cli("download", "mnist").code == 0
    assert "already there" in run_cli("download", "cifar10").out
    present = {row["name"]: row["present"] for row in json.loads(run_cli("datasets", "--json").out)}
    assert {name for name, is_there in present.items() if is_there} == {"digits", "shapes", "mnist", "cifar10"}
    trained = run_cli("train", *tiny, "--val-fraction", "0.5", "--json")
    assert trained.code == 0, trained.err
    assert "training on cifar10 (downloaded last)" in trained.err
    assert json.loads(trained.out)["dataset"] == "cifar10"
    assert store.is_dir()


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # torchvision leaves the socket of a 404 to the collector
@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("fault", ["wrong checksum", "404", "cut in mid-file", "cut between chunks"])
def test_a_download_that_fails_is_reported_and_leaves_nothing(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path, name: str, fault: str
) -> None:
    archive = cifar_archive(datasets.CIFAR10)
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
    assert (store / "prepared" / "mnist" / "facts-4.json").is_file()


def test_a_server_that_is_not_there_is_reported(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    with serving({}) as address:
        pass
    use_mnist(monkeypatch, datasets.MNIST, address, mnist_files())
    outcome = run_cli("train", "mnist")
    assert outcome.code == 1
    assert "mnist could not be downloaded" in outcome.err
    assert "could not reach 127.0.0.1 (the connection was refused)" in outcome.err
    assert "urlopen" not in outcome.err
    assert "check the connection" in outcome.err
    assert_nothing_stays(store)


def test_a_disk_without_room_is_named_and_not_the_connection(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    usage = shutil.disk_usage(store.parent)
    with serving(mnist_files()) as address:
        use_mnist(monkeypatch, datasets.MNIST, address, mnist_files())
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address, address])
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
        outcome = run_cli("download", "mnist")
        assert outcome.code == 1
        assert "mnist could not be downloaded: train-images-idx3-ubyte.gz needs" in outcome.err
        assert "hint: make room there" in outcome.err
        assert "connection" not in outcome.err
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        assert run_cli("download", "mnist").code == 0


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_download_that_was_damaged_on_disk_is_mended_by_what_the_hint_says(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path, name: str
) -> None:
    """The prepared images are gone and a downloaded file is short: `vit download NAME` again must help."""
    archive = cifar_archive(datasets.CIFAR10)
    with serving({**mnist_files(), datasets.CIFAR10.filename: archive}) as address:
        use_mnist(monkeypatch, datasets.MNIST, address, mnist_files())
        use_cifar(monkeypatch, datasets.CIFAR10, address, archive)
        assert run_cli("download", name).code == 0
        (store / "prepared" / name / "facts-4.json").unlink()
        for path in files_below(store / "downloads"):
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        damaged = run_cli("download", name)
        if damaged.code:  # CIFAR's checksums mend it at once; MNIST's are looked at on download only
            assert "remove that folder" in damaged.err
            shutil.rmtree(store / "downloads" / name)
        again = run_cli("download", name)
    assert again.code == 0, again.err


# photos, which stay files

PHOTOS: dict[str, tuple[TinySet, Callable[..., None]]] = {
    "flowers102": (tiny_files.flowers102(), tiny_files.use_flowers102),
    "oxford-pets": (tiny_files.oxford_pets(), tiny_files.use_oxford_pets),
    "food101": (tiny_files.food101(), tiny_files.use_food101),
    "eurosat": (tiny_files.eurosat_images(), tiny_files.use_eurosat),
}


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_are_downloaded_with_their_labels(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path, name: str
) -> None:
    tiny_set, use = PHOTOS[name]
    with serving(tiny_set.files) as address:
        use(monkeypatch, address, tiny_set.files)
        outcome = run_cli("download", name, "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["images"] == {split: len(files) for split, files in tiny_set.splits.items()}
    assert result["classes"] == tiny_set.num_classes
    dataset = open_dataset(DataConfig(name=name), directory=store, offline=True)
    assert dataset.facts.name == name
    assert dataset.facts.channels == 3
    assert dataset.facts.native_size == ((64, 64) if name == "eurosat" else None)
    assert dataset.facts.aspect == pytest.approx(1 if name == "eurosat" else 4 / 3)
    assert {label: dataset.facts.classes[label] for label in tiny_set.classes} == tiny_set.classes
    for split, expected in tiny_set.splits.items():
        assert dict(zip(dataset.names(split), dataset.labels(split).tolist(), strict=True)) == expected
        prepared = dataset.split(split, Geometry(size=(8, 8), channels=3, resize="squash"))
        reds = [int(image[0].float().mean().round()) for image in prepared.images]
        scale = {"flowers102": 2, "oxford-pets": 60}.get(name, 80)
        assert reds == pytest.approx([scale * label for label in prepared.labels.tolist()], abs=2)


@pytest.mark.usefixtures("collected")
@pytest.mark.parametrize("name", PHOTOS)
@pytest.mark.parametrize("fault", ["wrong checksum", "cut in mid-file"])
def test_photos_that_arrive_damaged_leave_nothing(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path, name: str, fault: str
) -> None:
    tiny_set, use = PHOTOS[name]
    victim = list(tiny_set.files)[-1]
    served = {**tiny_set.files}
    if fault == "wrong checksum":
        served[victim] = served[victim][:-1] + b"?"
    with serving(served, cut=[victim] if fault == "cut in mid-file" else []) as address:
        use(monkeypatch, address, tiny_set.files)
        outcome = run_cli("train", name)
    assert outcome.code == 1
    assert f"{name} could not be downloaded" in outcome.err
    assert f"vit download {name}" in outcome.err
    assert "Traceback" not in outcome.err
    assert_nothing_stays(store)


def test_photos_are_opened_again_without_torchvision_and_without_a_server(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path, processes: ForkServerContext
) -> None:
    for name, (tiny_set, use) in PHOTOS.items():
        with serving(tiny_set.files) as address:
            use(monkeypatch, address, tiny_set.files)
            assert run_cli("download", name).code == 0
    assert exit_code(processes.Process(target=open_data_sets, args=(store, (*PHOTOS,)))) == 0
    counts, modules = json.loads((store / "found.json").read_text())
    assert counts == {
        name: {split: len(files) for split, files in tiny_set.splits.items()} for name, (tiny_set, _) in PHOTOS.items()
    }
    assert "vitcli" in modules
    assert "torchvision" not in modules
    assert "scipy" not in modules


def test_photos_that_were_deleted_after_the_download_are_missed_by_name(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    tiny_set, use = PHOTOS["flowers102"]
    with serving(tiny_set.files) as address:
        use(monkeypatch, address, tiny_set.files)
        assert run_cli("download", "flowers102").code == 0
    gone = next(path for path in files_below(store / "downloads") if path.name == "image_00009.jpg")
    gone.unlink()
    outcome = run_cli("train", "flowers102")
    assert outcome.code == 1
    assert str(gone) in outcome.err
    assert f"remove {store / 'downloads' / 'flowers102'}" in " ".join(outcome.err.split())


@pytest.mark.usefixtures("store")
def test_training_on_flowers_validates_and_tests_on_their_own_splits(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tiny: tuple[str, ...]
) -> None:
    tiny_set, use = PHOTOS["flowers102"]
    with serving(tiny_set.files) as address:
        use(monkeypatch, address, tiny_set.files)
        trained = run_cli("train", "flowers102", *tiny, "--image-size", "18", "--json")
    assert trained.code == 0, trained.err
    result = json.loads(trained.out)
    assert (result["train_images"], result["val_images"]) == (6, 3)
    tested = run_cli("eval", "--json")
    assert tested.code == 0, tested.err
    metrics = json.loads(tested.out)["metrics"]
    assert metrics["images"] == 6
    assert len(metrics["classes"]) == 102


# arrays, which are prepared at once


def test_house_numbers_are_downloaded_with_0_for_0(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    files = tiny_files.svhn()
    with serving(files) as address:
        tiny_files.use_svhn(monkeypatch, address, files)
        outcome = run_cli("download", "svhn", "--json")
    assert outcome.code == 0, outcome.err
    dataset = open_dataset(DataConfig(name="svhn"), directory=store, offline=True)
    assert dataset.facts.counts == {"train": 40, "test": 20}
    assert dataset.facts.classes == tuple("0123456789")
    assert dataset.facts.native_geometry is not None
    for split, count in dataset.facts.counts.items():
        prepared = dataset.split(split, dataset.facts.native_geometry)
        assert prepared.labels.tolist() == [number % 10 for number in range(count)]
        assert np.array_equal(prepared.images.numpy(), pixels(count, 32, 32, 3).transpose(0, 3, 1, 2))


def test_photos_in_columns_are_downloaded_upright(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    files = tiny_files.stl10_archive(tiny_files.stl10())
    with serving(files) as address:
        tiny_files.use_stl10(monkeypatch, address, files)
        outcome = run_cli("download", "stl10")
    assert outcome.code == 0, outcome.err
    dataset = open_dataset(DataConfig(name="stl10"), directory=store, offline=True)
    assert dataset.facts.counts == {"train": 40, "test": 20}
    assert dataset.facts.classes == tiny_files.STL10_CLASSES
    assert dataset.facts.native_geometry == Geometry(size=(96, 96), channels=3, resize="squash")
    for split, count in dataset.facts.counts.items():
        prepared = dataset.split(split, dataset.facts.native_geometry)
        assert prepared.labels.tolist() == [number % 10 for number in range(count)]
        assert np.array_equal(prepared.images.numpy(), pixels(count, 3, 96, 96))


@pytest.mark.parametrize("name", ["svhn", "stl10"])
def test_arrays_that_arrive_damaged_leave_nothing(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path, name: str
) -> None:
    files = tiny_files.svhn() if name == "svhn" else tiny_files.stl10_archive(tiny_files.stl10())
    victim = list(files)[-1]
    with serving({**files, victim: files[victim][:-1]}) as address:
        {"svhn": tiny_files.use_svhn, "stl10": tiny_files.use_stl10}[name](monkeypatch, address, files)
        outcome = run_cli("download", name)
    assert outcome.code == 1
    assert f"{name} could not be downloaded" in outcome.err
    assert_nothing_stays(store)


@pytest.mark.usefixtures("store")
def test_training_on_stl10_holds_out_validation_images(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tiny: tuple[str, ...]
) -> None:
    files = tiny_files.stl10_archive(tiny_files.stl10())
    with serving(files) as address:
        tiny_files.use_stl10(monkeypatch, address, files)
        trained = run_cli("train", "stl10", *tiny, "--image-size", "36", "--val-fraction", "0.25", "--json")
    assert trained.code == 0, trained.err
    result = json.loads(trained.out)
    assert (result["train_images"], result["val_images"]) == (30, 10)
    assert json.loads(run_cli("eval", "--json").out)["metrics"]["images"] == 20


def test_what_arrived_before_a_cut_is_gone_on_with(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    tiny_set, use = PHOTOS["oxford-pets"]
    with serving(tiny_set.files, cut=["annotations.tar.gz"]) as address:
        use(monkeypatch, address, tiny_set.files)
        broken = run_cli("download", "oxford-pets")
    assert broken.code == 1
    assert "broke off" in broken.err
    assert {path.name for path in files_below(store)} == {
        "images.tar.gz",
        "annotations.tar.gz.part",
        "annotations.tar.gz.part.json",
    }
    with serving({**tiny_set.files, "images.tar.gz": b"not fetched again"}) as address:
        use(monkeypatch, address, tiny_set.files)
        assert run_cli("download", "oxford-pets").code == 0
    assert not list(store.rglob("*.archives"))


def test_what_arrived_before_ctrl_c_is_gone_on_with(
    run_cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    tiny_set, use = PHOTOS["oxford-pets"]

    def stop(_: object) -> None:
        if any(path.name == "images.tar.gz" for path in files_below(store)):
            raise KeyboardInterrupt

    with serving(tiny_set.files) as address:
        use(monkeypatch, address, tiny_set.files)
        with pytest.raises(KeyboardInterrupt):
            download("oxford-pets", emit=stop)
    assert "images.tar.gz" in {path.name for path in files_below(store)}
    with serving({**tiny_set.files, "images.tar.gz": b"not fetched again"}) as address:
        use(monkeypatch, address, tiny_set.files)
        assert run_cli("download", "oxford-pets").code == 0
