import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError
from vitcli.core.events import Event, TaskProgress
from vitcli.core.preprocessing import Geometry
from vitcli.data import decoding
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.store import check_dataset, downloads, facts_file, is_present, mark_downloaded, named_folder, unlisted
from vitcli.data.store import data_dir as chosen_data_dir
from vitcli.training.settings import usual_dataset

ImageFolder = Callable[..., Path]
PHOTOS = {"train/cat": 4, "train/dog": 4, "test/cat": 2, "test/dog": 2}
THUMBNAIL = Geometry(size=(16, 24), channels=3, crop_fraction=0.9)


def opened(folder: Path, directory: Path) -> Dataset:
    return open_dataset(DataConfig(name=str(folder)), directory=directory)


def open_digits(directory: Path) -> Dataset:
    return open_dataset(DataConfig(name="digits"), directory=directory)


def prepared_files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.safetensors"))


def everything_below(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.rglob("*") if path.is_file())


@pytest.fixture
def photos(image_folder: ImageFolder, tmp_path: Path) -> Path:
    """RGB images of two sizes."""
    image_folder(tmp_path / "pets", PHOTOS, size=(40, 60), mode="RGB")
    Image.new("RGB", (90, 50)).save(tmp_path / "pets" / "train" / "cat" / "wide.png")
    return tmp_path / "pets"


@pytest.fixture
def thumbnails(image_folder: ImageFolder, tmp_path: Path) -> Path:
    """Grey images of one small size."""
    return image_folder(tmp_path / "tiny", {"cat": 10, "dog": 10}, size=(8, 12))


def test_digits_are_prepared_with_their_facts(tmp_path: Path) -> None:
    assert not is_present("digits", tmp_path)
    facts = open_digits(tmp_path).facts
    assert is_present("digits", tmp_path)
    assert facts.counts == {"train": 1438, "test": 359}
    assert (facts.channels, facts.native_size) == (1, (8, 8))
    assert facts.classes == tuple("0123456789")


def test_a_named_data_set_is_read_once(tmp_path: Path) -> None:
    open_digits(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    open_digits(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 elsewhere")
@pytest.mark.parametrize("name", [os.fsdecode(b"b\xff"), "n" * 250, "\u00e9" * 125])
def test_folders_of_any_name_are_prepared(photos: Path, tmp_path: Path, name: str) -> None:
    dataset = opened(photos.rename(tmp_path / name), tmp_path / "data")
    assert len(dataset.split("train", Geometry(size=(8, 8), channels=3)).labels) > 0


def test_images_are_prepared_once(photos: Path, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    first = opened(photos, directory).split("train", THUMBNAIL)
    (file,) = prepared_files(directory)
    before = file.stat().st_mtime_ns
    events: list[Event] = []
    second = opened(photos, directory).split("train", THUMBNAIL, emit=events.append)
    assert file.stat().st_mtime_ns == before
    assert not events
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.labels, second.labels)


def test_progress_begins_at_nothing_and_ends_with_all(photos: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    opened(photos, tmp_path / "data").split("train", THUMBNAIL, emit=events.append)
    progress = [(event.done, event.total) for event in events if isinstance(event, TaskProgress)]
    assert progress[0] == (0, 9)
    assert progress[-1] == (9, 9)


def test_a_prepared_file_that_is_gone_is_made_again(tmp_path: Path) -> None:
    dataset = open_dataset(DataConfig(name="digits"), directory=tmp_path)
    before = dataset.labels("train").tolist()
    (path,) = (path for path in prepared_files(tmp_path) if path.name.startswith("train"))
    path.unlink()
    again = open_dataset(DataConfig(name="digits"), directory=tmp_path)
    assert again.labels("train").tolist() == before
    assert path.exists()


def test_any_safetensors_reader_opens_what_was_prepared(photos: Path, tmp_path: Path) -> None:
    split = opened(photos, tmp_path / "data").split("train", THUMBNAIL)
    (path,) = prepared_files(tmp_path / "data")
    with safe_open(path, framework="np") as file:
        assert set(file.keys()) == {"images", "labels", "stretch"}
        assert np.array_equal(file.get_tensor("images"), split.images.numpy())
        assert np.array_equal(file.get_tensor("labels"), split.labels.numpy())


@pytest.mark.parametrize(
    "geometry",
    [
        THUMBNAIL,
        Geometry(size=(32, 32), channels=3),
        Geometry(size=(20, 10), channels=1, resize="squash"),
    ],
)
def test_photos_get_the_geometry_that_is_asked_for(photos: Path, tmp_path: Path, geometry: Geometry) -> None:
    dataset = opened(photos, tmp_path / "data")
    assert dataset.facts.native_size is None
    assert dataset.facts.native_geometry is None
    assert dataset.facts.channels == 3
    split = dataset.split("train", geometry)
    assert split.images.dtype == torch.uint8
    assert split.images.shape == (9, geometry.channels, *geometry.size)
    assert split.labels.tolist() == dataset.labels("train").tolist() == [0] * 5 + [1] * 4


def test_each_geometry_has_a_file_of_its_own(photos: Path, tmp_path: Path) -> None:
    dataset = opened(photos, tmp_path / "data")
    for geometry in (
        THUMBNAIL,
        Geometry(size=(16, 24), channels=3, crop_fraction=0.8),
        Geometry(size=(16, 24), channels=3, resize="squash"),
        Geometry(size=(24, 16), channels=3, crop_fraction=0.9),
        Geometry(size=(16, 24), channels=1, crop_fraction=0.9),
        Geometry(size=(16, 24), channels=1, crop_fraction=0.9, value_range=(1e6, 1_000_003)),
        Geometry(size=(16, 24), channels=1, crop_fraction=0.9, value_range=(1e6, 1_000_004)),
    ):
        dataset.split("train", geometry)
    dataset.split("test", THUMBNAIL)
    assert len(prepared_files(tmp_path / "data")) == 8


def test_small_images_of_one_size_are_kept_as_they_are(thumbnails: Path, tmp_path: Path) -> None:
    dataset = opened(thumbnails, tmp_path / "data")
    assert dataset.facts.native_size == (8, 12)
    assert dataset.facts.channels == 1
    geometry = dataset.facts.native_geometry
    assert geometry is not None
    stored = {
        image.numpy().tobytes() for name in dataset.facts.counts for image in dataset.split(name, geometry).images
    }
    assert stored == {np.asarray(Image.open(path)).tobytes() for path in thumbnails.rglob("*.png")}


def test_small_images_of_two_sizes_are_photos(thumbnails: Path, tmp_path: Path) -> None:
    Image.new("L", (12, 9)).save(thumbnails / "cat" / "other.png")
    assert opened(thumbnails, tmp_path / "data").facts.native_size is None


def test_large_images_of_one_size_are_photos(image_folder: ImageFolder, tmp_path: Path) -> None:
    folder = image_folder(tmp_path / "large", {"cat": 3, "dog": 3}, size=(32, 65))
    assert opened(folder, tmp_path / "data").facts.native_size is None


def test_one_colour_image_makes_all_colour(thumbnails: Path, tmp_path: Path) -> None:
    Image.new("RGB", (12, 8), "red").save(thumbnails / "cat" / "red.png")
    assert opened(thumbnails, tmp_path / "data").facts.channels == 3


@pytest.mark.parametrize("prepared_before", [False, True])
@pytest.mark.parametrize("chosen", [[7, 0, 3], [2]])
def test_members_are_those_asked_for_in_that_order(
    photos: Path,
    tmp_path: Path,
    chosen: list[int],
    prepared_before: bool,  # noqa: FBT001 - pytest's
) -> None:
    members = np.array(chosen)
    dataset = opened(photos, tmp_path / "data")
    if prepared_before:
        dataset.split("train", THUMBNAIL)
    some = dataset.split("train", THUMBNAIL, members=members)
    everything = dataset.split("train", THUMBNAIL)
    assert torch.equal(some.images, everything.images[members])
    assert torch.equal(some.labels, everything.labels[members])


def test_a_few_members_do_not_have_all_decoded(photos: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    opened(photos, tmp_path / "data").split("train", THUMBNAIL, members=np.array([1, 5]), emit=events.append)
    assert {event.total for event in events if isinstance(event, TaskProgress)} == {2}


def test_a_changed_file_is_prepared_anew(photos: Path, tmp_path: Path) -> None:
    directory = tmp_path / "data"
    before = opened(photos, directory)
    old = before.split("train", THUMBNAIL).images
    changed = photos / "train" / "cat" / "000.png"
    Image.new("RGB", (60, 40), "red").save(changed)
    os.utime(changed, ns=(1, 1))
    after = opened(photos, directory)
    assert after.facts.fingerprint != before.facts.fingerprint
    assert not torch.equal(after.split("train", THUMBNAIL).images, old)


def test_uncompressed_files_with_other_pixels_and_an_old_date_are_prepared_anew(tmp_path: Path) -> None:
    """As an archive with fixed dates unpacks them."""
    found = []
    for colour in (10, 90):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
            for at in range(3):
                file = tmp_path / "pets" / name / f"{at}.bmp"
                Image.new("RGB", (80, 70), (colour + at, 0, 0)).save(file)
                os.utime(file, ns=(1, 1))
        found.append(opened(tmp_path / "pets", tmp_path / "data").split("train", THUMBNAIL).images[:, 0, 0, 0].tolist())
    assert found == [[10, 11, 12] * 2, [90, 91, 92] * 2]


def test_added_removed_and_moved_files_are_noticed(photos: Path, tmp_path: Path) -> None:
    fingerprints = [opened(photos, tmp_path / "data").facts.fingerprint]
    Image.new("RGB", (60, 40)).save(photos / "train" / "cat" / "new.png")
    fingerprints.append(opened(photos, tmp_path / "data").facts.fingerprint)
    (photos / "train" / "cat" / "new.png").rename(photos / "train" / "dog" / "new.png")
    fingerprints.append(opened(photos, tmp_path / "data").facts.fingerprint)
    (photos / "train" / "dog" / "new.png").unlink()
    assert len(set(fingerprints)) == 3
    assert opened(photos, tmp_path / "data").facts.fingerprint == fingerprints[0]


def test_two_folders_of_one_name_are_kept_apart(image_folder: ImageFolder, tmp_path: Path) -> None:
    folders = [image_folder(tmp_path / place / "pets", {"cat": 3, "dog": 3}) for place in ("a", "b")]
    for folder in folders:
        opened(folder, tmp_path / "data")
    assert len(list((tmp_path / "data" / "prepared").iterdir())) == 2


def test_an_image_whose_header_cannot_be_read_is_named(photos: Path, tmp_path: Path) -> None:
    bad = photos / "train" / "dog" / "001.png"
    bad.write_text("this is text")
    with pytest.raises(DataError, match=str(bad)):
        opened(photos, tmp_path / "data")
    assert everything_below(tmp_path / "data") == []


def truncated_image(path: Path) -> Path:
    """An image whose header is whole."""
    Image.effect_noise((60, 40), 50).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:1500])
    return path


@pytest.mark.parametrize("name", ["noise.jpg", "noise.png"])
def test_looking_at_an_image_reads_its_header_alone(photos: Path, tmp_path: Path, name: str) -> None:
    """Decoding every pixel here would double the time that a large folder takes to prepare."""
    truncated_image(photos / "train" / "dog" / name)
    assert opened(photos, tmp_path / "data").facts.counts["train"] == 10


@pytest.mark.parametrize("members", [None, np.array([5, 6])])
def test_a_truncated_image_is_named_and_nothing_half_written_stays(
    photos: Path, tmp_path: Path, members: np.ndarray | None
) -> None:
    bad = truncated_image(photos / "train" / "dog" / "000.jpg")
    dataset = opened(photos, tmp_path / "data")
    with pytest.raises(DataError, match=str(bad)):
        dataset.split("train", THUMBNAIL, members=members)
    assert everything_below(tmp_path / "data") == ["facts-4.json"]


@pytest.mark.parametrize("members", [None, np.array([10, 2])])
def test_images_that_can_be_read_by_now_are_no_longer_left_out(
    photos: Path, tmp_path: Path, members: np.ndarray | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after the installation of a package for their format."""
    Image.new("RGB", (60, 40)).save(photos / "train" / "dog" / "new.webp")
    truncated_image(photos / "train" / "cat" / "bad.jpg")
    config = DataConfig(name=str(photos), on_bad_image="skip")
    found = []
    for formats in ((), decoding._RARE, decoding._RARE):
        monkeypatch.setattr(decoding, "_RARE", formats)
        labels = open_dataset(config, directory=tmp_path / "data").split("train", THUMBNAIL, members=members).labels
        found.append((labels < 0).sum().item())
    assert found == ([2, 1, 1] if members is None else [1, 0, 0])


def test_damaged_prepared_images_are_named_with_the_way_out(tmp_path: Path) -> None:
    dataset = open_digits(tmp_path)
    path = next(path for path in prepared_files(tmp_path) if path.name.startswith("train"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=f"{path} is damaged") as caught:
        dataset.labels("train")
    assert f"remove {path.parent}" in caught.value.hint


@pytest.mark.parametrize("content", ["{", "[]", '{"name": "digits"}'])
def test_broken_facts_are_named_with_the_way_out(tmp_path: Path, content: str) -> None:
    open_digits(tmp_path)
    facts_file(named_folder("digits", tmp_path)).write_text(content)
    with pytest.raises(DataError, match=r"facts-4\.json is broken") as caught:
        open_digits(tmp_path)
    assert "remove" in caught.value.hint


def test_an_unknown_name_comes_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'digit' is neither a data set nor a folder") as caught:
        open_dataset(DataConfig(name="digit"), directory=tmp_path)
    assert "'digits'" in caught.value.hint
    assert "vit datasets" in caught.value.hint


def test_a_folder_with_a_similar_name_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hands").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="'hnads' is neither a data set nor a folder") as caught:
        check_dataset("hnads")
    assert caught.value.hint == "did you mean 'hands'?"


@pytest.mark.parametrize("name", ["some/where", "~/no-such-folder-here", "/no/such/folder"])
def test_a_path_that_is_not_there_is_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        open_dataset(DataConfig(name=name), directory=tmp_path)


def test_facts_are_plain_json(tmp_path: Path) -> None:
    facts = open_digits(tmp_path).facts
    stored = json.loads(facts_file(named_folder("digits", tmp_path)).read_text())
    assert stored["counts"] == facts.counts
    assert tuple(stored["classes"]) == facts.classes


def test_the_newest_download_is_the_one_asked_for_last(tmp_path: Path) -> None:
    assert downloads(tmp_path) == []
    for name in ("mnist", "digits", "cifar10"):
        mark_downloaded(name, tmp_path)
    assert downloads(tmp_path) == ["cifar10", "digits", "mnist"]
    mark_downloaded("mnist", tmp_path)
    assert downloads(tmp_path) == ["mnist", "cifar10", "digits"]


def test_only_data_sets_of_the_registry_count_as_downloaded(tmp_path: Path) -> None:
    other = named_folder("something-else", tmp_path)
    other.mkdir(parents=True)
    facts_file(other).write_text("{}")
    (other / "downloaded").write_text("2999")
    assert downloads(tmp_path) == []


@pytest.mark.parametrize("mark", [b"\xff", b"2999 kaggle:a b c", b"", None])
def test_a_broken_mark_is_no_download(tmp_path: Path, mark: bytes | None) -> None:
    mark_downloaded("mnist", tmp_path)
    path = named_folder("broken", tmp_path) / "downloaded"
    path.parent.mkdir()
    path.mkdir() if mark is None else path.write_bytes(mark)
    assert downloads(tmp_path) == ["mnist"]


@pytest.mark.parametrize(
    ("asked", "here", "meant"),
    [
        ((), (), ("digits", "bundled")),
        (("mnist", "cifar10"), ("mnist", "cifar10"), ("cifar10", "downloaded last")),
        (("mnist",), (), ("digits", "bundled; mnist, which was downloaded last, is gone")),
        (("mnist", "cifar10"), ("mnist",), ("mnist", "downloaded last; cifar10, which was downloaded last, is gone")),
    ],
)
def test_the_usual_data_set_is_the_newest_that_is_here(
    tmp_path: Path, asked: tuple[str, ...], here: tuple[str, ...], meant: tuple[str, str]
) -> None:
    for name in asked:
        mark_downloaded(name, tmp_path)
    for name in here:
        facts_file(named_folder(name, tmp_path)).write_text("{}")
    assert usual_dataset(tmp_path) == meant


def test_what_is_here_of_kaggle_is_listed_by_its_name(tmp_path: Path) -> None:
    for folder in ("kaggle.ada.birds", "kaggle.bird-cup", "cassava", "kaggle.not.one.of.ours", ".kaggle.x.loading"):
        (tmp_path / "downloads" / folder).mkdir(parents=True)
    (tmp_path / "downloads" / "kaggle.ada.cats.zip").touch()
    assert unlisted(tmp_path) == ["kaggle:ada/birds", "kaggle:bird-cup"]


def test_training_on_digits_does_not_make_them_a_download(tmp_path: Path) -> None:
    open_digits(tmp_path)
    assert downloads(tmp_path) == []


def test_the_data_folder_is_the_setting_else_the_variable_else_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VIT_DATA_DIR", str(tmp_path / "variable"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert chosen_data_dir(str(tmp_path / "setting")) == tmp_path / "setting"
    assert chosen_data_dir() == tmp_path / "variable"
    assert chosen_data_dir("~/images") == tmp_path / "home" / "images"
    monkeypatch.delenv("VIT_DATA_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert chosen_data_dir() == tmp_path / "cache" / "vitcli"
