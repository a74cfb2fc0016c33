from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vitcli.core.errors import DataError
from vitcli.core.events import Event, Warned
from vitcli.data.raw import FileSplit, RawDataset
from vitcli.data.sources.image_folder import read

ImageFolder = Callable[..., Path]


def files_of(raw: RawDataset[FileSplit]) -> dict[str, list[tuple[str, str]]]:
    """Per split: (class, path below the folder), as the labels say."""
    return {
        split: [
            (raw.classes[label], "/".join(file.parts[-2:]))
            for file, label in zip(files.files, files.labels, strict=True)
        ]
        for split, files in raw.splits.items()
    }


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["train", "test"], ["train", "test"]),
        (["train", "val", "test"], ["train", "val", "test"]),
        (["train", "valid"], ["train", "val"]),
        (["train", "validation"], ["train", "val"]),
        (["training", "test"], ["train", "test"]),
        (["Train", "TEST", "Val"], ["train", "test", "val"]),
        (["train"], ["train"]),
        (["training_set", "test_set"], ["train", "test"]),
        (["Train-Data", "valset", "test images"], ["train", "val", "test"]),
        (["train_set/train_set", "test_set/test_set"], ["train", "test"]),
    ],
)
def test_folders_of_splits(image_folder: ImageFolder, tmp_path: Path, folders: list[str], splits: list[str]) -> None:
    counts = {f"{folder}/{name}": 2 + index for index, folder in enumerate(folders) for name in ("cat", "dog")}
    raw = read(image_folder(tmp_path / "pets", counts))
    assert raw.name == "pets"
    assert raw.classes == ("cat", "dog")
    assert {split: len(files.files) for split, files in raw.splits.items()} == {
        split: 2 * (2 + index) for index, split in enumerate(splits)
    }
    for files in files_of(raw).values():
        assert all(path.startswith(f"{name}/") for name, path in files)


def test_one_folder_of_classes_is_all_for_training(image_folder: ImageFolder, tmp_path: Path) -> None:
    raw = read(image_folder(tmp_path, {"cat": 10, "dog": 20, "eel": 2}))
    assert list(raw.splits) == ["train"]
    assert np.bincount(raw.splits["train"].labels).tolist() == [10, 20, 2]
    assert raw.root == tmp_path


def test_classes_are_aligned_by_name_across_splits(image_folder: ImageFolder, tmp_path: Path) -> None:
    """Folders are made in different orders, and each split has other numbers of images."""
    image_folder(
        tmp_path, {"test/eel": 1, "test/ant": 2, "train/cat": 3, "test/cat": 4, "train/ant": 5, "train/eel": 6}
    )
    raw = read(tmp_path)
    assert raw.classes == ("ant", "cat", "eel")
    assert np.bincount(raw.splits["train"].labels).tolist() == [5, 3, 6]
    assert np.bincount(raw.splits["test"].labels).tolist() == [2, 4, 1]
    for files in files_of(raw).values():
        assert all(path.startswith(f"{name}/") for name, path in files)


def test_images_in_folders_below_a_class_belong_to_it(image_folder: ImageFolder, tmp_path: Path) -> None:
    image_folder(tmp_path, {"train/cat": 2, "train/dog": 2})
    image_folder(tmp_path / "train" / "cat", {"young/wild": 3})
    raw = read(tmp_path)
    assert np.bincount(raw.splits["train"].labels).tolist() == [5, 2]


def test_what_is_hidden_or_no_image_is_passed_over(image_folder: ImageFolder, tmp_path: Path) -> None:
    image_folder(tmp_path, {"train/cat": 2, "train/dog": 3, "train/.thumbs": 1, "train/dog/.old": 1})
    image_folder(tmp_path, {"__MACOSX/cat": 1, "train/__MACOSX": 1, "train/cat/__MACOSX": 1, ".git/cat": 1})
    image_folder(tmp_path, {"@eaDir/cat": 1, "train/@eaDir": 1, "train/cat/@eaDir": 1})
    for name in ("notes.txt", ".DS_Store", "._000.png", "labels.csv", "no-suffix"):
        (tmp_path / "train" / "cat" / name).write_text("x")
        (tmp_path / "train" / name).write_text("x")
    (tmp_path / "train" / "dog" / "folder.png").mkdir()
    raw = read(tmp_path)
    assert raw.classes == ("cat", "dog")
    assert np.bincount(raw.splits["train"].labels).tolist() == [2, 3]
    names = {"notes.txt": ".txt", "labels.csv": ".csv", "no-suffix": "without an ending"}
    assert raw.passed_over == {kind: (f"train/cat/{name}",) for name, kind in names.items()}


def test_images_that_are_passed_over_are_counted_and_named(image_folder: ImageFolder, tmp_path: Path) -> None:
    image_folder(tmp_path, {"cat": 2, "dog": 2, ".": 1})
    for name in ("b.CR2", "a.cr2", "Thumbs.db"):
        (tmp_path / "cat" / name).touch()
    (tmp_path / "dog" / "link.png").symlink_to("nowhere.png")
    (tmp_path / "dog" / "more").symlink_to(tmp_path / "cat")
    assert read(tmp_path).passed_over == {
        ".cr2": ("cat/a.cr2", "cat/b.CR2"),
        "linked folders": ("dog/more",),
        "linked to nothing": ("dog/link.png",),
        "outside of the classes": ("000.png",),
    }


def said(folder: Path, emit: list[Event]) -> str:
    read(folder, emit=emit.append)
    return " ".join(event.text for event in emit if isinstance(event, Warned))


def test_classes_that_all_hold_the_same_folders_are_doubted(image_folder: ImageFolder, tmp_path: Path) -> None:
    image_folder(tmp_path / "a", {f"{above}/{name}": 2 for above in ("mine_a", "mine_b") for name in ("cat", "dog")})
    assert "the classes are mine_a, mine_b, and each has the subfolders cat, dog" in said(tmp_path / "a", [])
    image_folder(tmp_path / "b", {f"{name}/{split}": 2 for split in ("train", "test") for name in ("cat", "dog")})
    assert "put the splits above the classes" in said(tmp_path / "b", [])
    image_folder(tmp_path / "c", {"cat/images": 2, "dog/images": 2, "eel/other": 2})
    assert said(tmp_path / "c", []) == ""
    image_folder(tmp_path / "d", {**{f"Dataset/{at}": 2 for at in range(3)}, "Examples/new": 2, "Examples/old": 2})
    expected = f"Dataset, Examples, and each holds only folders of images: if those are classes, `vit train {tmp_path}/d/Dataset`"
    assert expected in said(tmp_path / "d", [])


def test_a_folder_of_classes_that_is_alone_but_for_an_image_is_named(image_folder: ImageFolder, tmp_path: Path) -> None:
    image_folder(tmp_path / "one", {f"Data set/{at}": 2 for at in range(3)} | {".": 1})
    with pytest.raises(DataError, match="Data set holds only folders of images") as caught:
        read(tmp_path / "one")
    assert f"`vit train '{tmp_path}/one/Data set'`, if the classes are in there" in caught.value.hint


def test_the_command_that_was_typed_gets_the_folder_of_classes(
    image_folder: ImageFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_folder(tmp_path, {"photos/Data/cat": 2, "photos/Data/dog": 2, "photos": 1})
    monkeypatch.chdir(tmp_path)
    for words, typed in (
        ("eval photos/ --model photos --split val", "vit eval photos/Data --model photos --split val"),
        ("eval --model photos photos", "vit eval --model photos photos/Data"),
        (f"eval {tmp_path}", "vit eval photos/Data"),
        ("eval elsewhere", "vit train photos/Data"),
    ):
        monkeypatch.setattr("sys.argv", ["/usr/bin/vit", *words.split()])
        with pytest.raises(DataError) as caught:
            read(Path("photos"))
        assert f"`{typed}`, if" in caught.value.hint


def test_classes_without_images_are_left_out_where_bad_images_are(image_folder: ImageFolder, tmp_path: Path) -> None:
    raw = read(image_folder(tmp_path, {"cat": 2, "dog": 2, "eel": 0}), skip_bad=True)
    assert raw.classes == ("cat", "dog")
    assert raw.left_out == {"of 3 class folders without images": ("eel",)}


@pytest.mark.parametrize(("lacking", "other"), [("train", "test"), ("test", "train"), ("val", "train")])
def test_a_class_that_a_split_lacks_is_named(
    image_folder: ImageFolder, tmp_path: Path, lacking: str, other: str
) -> None:
    counts = {f"{split}/{name}": 2 for split in (lacking, other, "train") for name in ("cat", "dog")}
    image_folder(tmp_path, {**counts, f"{other}/eel": 2})
    if other != "train" and lacking != "train":
        image_folder(tmp_path, {"train/eel": 2})
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert caught.value.message == f"{tmp_path / lacking} lacks a class: 'eel'"
    assert caught.value.hint


def test_many_missing_classes_are_counted(image_folder: ImageFolder, tmp_path: Path) -> None:
    image_folder(tmp_path, {f"train/{letter}": 1 for letter in "abcdefgh"} | {"test/a": 1, "test/b": 1})
    with pytest.raises(DataError, match=r"test lacks 6 classes: 'c', 'd', 'e', 'f', 'g' \.\.\."):
        read(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="absent is not a folder"):
        read(tmp_path / "absent")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file is not a folder"):
        read(tmp_path / "file")


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({}, "is empty"),
        ({".": 3}, "has no class subfolders"),
        ({"cat": 5}, "has one class only: 'cat'"),
        ({"train/cat": 5}, "has one class only: 'cat'"),
        ({"cat": 0, "dog": 0}, "has no images"),
        ({"cat": 3, "dog": 0}, "class 'dog' has no images"),
        ({"train/cat": 3, "train/dog": 0}, "class 'dog' has no images"),
        ({"train/cat": 3, "train/dog": 3, "test": 0}, "test is empty"),
        ({"train": 3}, "train has no class subfolders"),
        ({"cat": 1}, "has one class only: 'cat'"),
        ({"val/cat": 3, "val/dog": 3}, "has no train/ folder"),
        ({"val/cat": 3, "test/cat": 3}, "has no train/ folder"),
        ({"train/cat": 3, "training/cat": 3}, "two folders for one split: train/ and training/"),
    ],
)
def test_what_cannot_be_used_is_named_with_a_hint(
    image_folder: ImageFolder, tmp_path: Path, counts: dict[str, int], message: str
) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    image_folder(folder, counts)
    with pytest.raises(DataError) as caught:
        read(folder)
    assert message in caught.value.message
    assert str(folder) in caught.value.message or "too few" in message
    assert caught.value.hint


def test_a_folder_beside_the_folders_of_splits_is_passed_over_and_named(
    image_folder: ImageFolder, tmp_path: Path
) -> None:
    """Kaggle's archives have such folders; but a class that is left out must not be left out without a word."""
    image_folder(tmp_path, {"train/cat": 3, "train/dog": 3, "bird": 3})
    events: list[Event] = []
    assert read(tmp_path, emit=events.append).classes == ("cat", "dog")
    assert [event.text for event in events if isinstance(event, Warned) and "bird/" in event.text]
