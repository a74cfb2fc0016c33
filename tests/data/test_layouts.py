"""Layouts that are easily mistaken for others: each is taken as it is meant, or explained."""

import json
import unicodedata
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import Outcome
from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError, UsageError, VitError
from vitcli.core.events import Event, Note, Warned, ignore
from vitcli.data.raw import FileSplit, RawDataset, fingerprints
from vitcli.data.sources import folder as any_folder
from vitcli.data.sources import image_folder as source
from vitcli.data.sources.image_folder import has_split_folders
from vitcli.data.sources.table_file import read_table

ImageFolder = Callable[..., Path]


@pytest.fixture
def make(image_folder: ImageFolder, tmp_path: Path) -> Callable[..., Path]:
    """``make({"cat": 2}, {"train.csv": "..."})``: a folder of images, and files of text beside them."""

    def made(counts: dict[str, int], files: dict[str, str] | None = None) -> Path:
        (tmp_path / "photos").mkdir(exist_ok=True)
        folder = image_folder(tmp_path / "photos", counts)
        for name, content in (files or {}).items():
            (folder / name).write_text(content)
        return folder

    return made


def read(folder: Path, emit: Callable[[Event], None] = ignore, **settings: str) -> RawDataset[FileSplit]:
    return any_folder.read(folder, DataConfig(**settings), emit)


def said(folder: Path, kind: type[Note | Warned], **settings: str) -> list[str]:
    events: list[Event] = []
    read(folder, events.append, **settings)
    return [event.text for event in events if isinstance(event, kind)]


def refusal(folder: Path, **settings: str) -> VitError:
    with pytest.raises((DataError, UsageError)) as caught:
        read(folder, **settings)
    assert caught.value.hint
    return caught.value


def images_of(raw: RawDataset[FileSplit]) -> dict[str, dict[str, int]]:
    """Per split: the number of images of each class."""
    return {
        split: dict(Counter(raw.classes[label] for label in files.labels.tolist()))
        for split, files in raw.splits.items()
    }


def labels_of(raw: RawDataset[FileSplit], split: str = "train") -> dict[str, str]:
    assert raw.root
    part = raw.splits[split]
    names = [file.relative_to(raw.root).as_posix() for file in part.files]
    return {name: raw.classes[label] for name, label in zip(names, part.labels.tolist(), strict=True)}


# Classes that are called like splits


@pytest.mark.parametrize(
    ("classes", "beside"),
    [("bus car train", "bus, car"), ("invalid valid", "invalid"), ("control test", "control"), ("Dev prod", "prod")],
)
def test_classes_called_like_splits_are_classes_and_that_is_said(
    make: Callable[..., Path], classes: str, beside: str
) -> None:
    names = classes.split()
    folder = make({name: 2 + at for at, name in enumerate(names)})
    assert read(folder).classes == tuple(names)
    assert images_of(read(folder)) == {"train": {name: 2 + at for at, name in enumerate(names)}}
    assert not has_split_folders(folder)
    (called,) = set(names) - set(beside.split(", "))
    (warning,) = said(folder, Warned)
    assert warning == (
        f"{folder / called} is taken as a class, as {beside} beside it, because it has no class subfolders: if it is a"
        " split, give it class subfolders, or move it to another place"
    )


@pytest.mark.parametrize("below", [{"xml": 0, "txt": 0}, {"old": 3}, {"old": 3, "xml": 0}])
def test_classes_called_like_splits_may_hold_folders(make: Callable[..., Path], below: dict[str, int]) -> None:
    folder = make({"bus": 2, "train": 2, **{f"train/{name}": count for name, count in below.items()}})
    assert not has_split_folders(folder)
    assert images_of(read(folder)) == {"train": {"bus": 2, "train": 2 + sum(below.values())}}


def test_classes_called_like_splits_may_stand_below_splits(make: Callable[..., Path]) -> None:
    folder = make({f"{split}/{name}": 2 for split in ("train", "test") for name in ("bus", "train", "test")})
    assert images_of(read(folder)) == {split: {"bus": 2, "test": 2, "train": 2} for split in ("train", "test")}
    assert said(folder, Warned) == []


SPLITS = {"train/cat": 2, "train/dog": 2}


@pytest.mark.parametrize(
    ("counts", "splits"),
    [
        (SPLITS | {"docs": 2}, ["train"]),
        (SPLITS | {"test": 3}, ["train"]),
        (SPLITS | {"test": 3, "docs": 2}, ["train"]),
        (SPLITS | {"train": 1, "bird": 2}, ["train"]),
        ({"train/train/cat": 2, "train/train/dog": 2, "train": 1, "docs": 2}, ["train"]),
        (SPLITS | {"test/cat": 1, "test/dog": 1, "docs": 2}, ["train", "test"]),
    ],
)
def test_folders_of_splits_stay_splits(make: Callable[..., Path], counts: dict[str, int], splits: list[str]) -> None:
    folder = make(counts)
    assert has_split_folders(folder)
    assert read(folder).classes == ("cat", "dog")
    assert list(read(folder).splits) == splits
    ignored = [name for name in ("bird", "docs") if name in counts]
    assert said(folder, Warned)[:1] == [
        f"{folder} has split folders, so other folders beside them are ignored: {name}/" for name in ignored
    ]


@pytest.mark.parametrize(
    ("counts", "message", "hint"),
    [
        ({"train": 2, "test": 2, "docs": 2}, "train has no class subfolders", "images of each class into a subfolder"),
        ({"test": 2, "valid": 2, "invalid": 2}, "has no train/ folder", "if these are classes, give them other names"),
        ({"train/old": 2, "bus": 2}, "train has one class only: 'old'", "two are needed"),
        ({"train_images": 2, "masks": 2}, "train_images has no class subfolders", "into a subfolder"),
        ({"train": 2, "docs": 0}, "train has no class subfolders", "into a subfolder"),
    ],
)
def test_folders_that_may_be_splits_or_classes_are_explained(
    make: Callable[..., Path], counts: dict[str, int], message: str, hint: str
) -> None:
    error = refusal(make(counts))
    assert message in error.message
    assert hint in error.hint


# Accents, composed and decomposed


NAME = "Löwe"
COMPOSED, DECOMPOSED = (unicodedata.normalize(form, NAME) for form in ("NFC", "NFD"))


def test_accents_are_one_class_across_splits(make: Callable[..., Path]) -> None:
    folder = make({f"train/{COMPOSED}": 2, "train/cat": 2, f"val/{DECOMPOSED}": 3, "val/cat": 1})
    assert read(folder).classes == (COMPOSED, "cat")
    assert images_of(read(folder)) == {"train": {COMPOSED: 2, "cat": 2}, "val": {COMPOSED: 3, "cat": 1}}
    assert said(folder, Note) == []


def test_accents_are_one_class_in_one_folder_and_that_is_said(make: Callable[..., Path]) -> None:
    folder = make({COMPOSED: 2, DECOMPOSED: 3, "cat": 2})
    assert images_of(read(folder)) == {"train": {COMPOSED: 5, "cat": 2}}
    (note,) = said(folder, Note)
    assert note == (
        f"{folder} has two folders called {COMPOSED!r}, which differ only in composed and decomposed letters: they are"
        " one class"
    )


def test_names_that_are_decomposed_on_disk_keep_their_files(make: Callable[..., Path]) -> None:
    raw = read(make({DECOMPOSED: 2, "cat": 2}))
    assert raw.classes == (COMPOSED, "cat")
    assert all(file.is_file() for file in raw.splits["train"].files)
    assert fingerprints(raw)
    error = refusal(make({DECOMPOSED + "s": 0}))
    assert error.message == f"class '{COMPOSED}s' has no images in {raw.root}"


def test_accents_are_one_class_in_tables_and_label_maps(make: Callable[..., Path]) -> None:
    rows = f"file,{DECOMPOSED}\n000.png,{COMPOSED}\n001.png,{DECOMPOSED}\n002.png,cat\n"
    folder = make({".": 3}, {"labels.csv": rows})
    raw = read(folder, label_column=COMPOSED)
    assert raw.classes == raw.values == (COMPOSED, "cat")
    assert labels_of(raw) == {"000.png": COMPOSED, "001.png": COMPOSED, "002.png": "cat"}
    (folder / "map.json").write_text(json.dumps({DECOMPOSED: DECOMPOSED + " 1", "cat": "cat"}))
    assert read(folder).classes == (COMPOSED + " 1", "cat")


# Capitals and spaces


@pytest.mark.parametrize(("names", "pair"), [("Cat,cat,dog", "'Cat' and 'cat'"), ("cat,dog,dog ", "'dog' and 'dog '")])
def test_classes_that_differ_in_capitals_or_spaces_are_named(make: Callable[..., Path], names: str, pair: str) -> None:
    folder = make(dict.fromkeys(names.split(","), 2))
    assert len(read(folder).classes) == 3
    (warning,) = said(folder, Warned)
    assert warning == (
        f"1 pair of classes of {folder} differs only in upper and lower case or in spaces, as {pair}: if they are one"
        " class, write them alike"
    )


def test_labels_that_differ_in_capitals_are_named(make: Callable[..., Path]) -> None:
    rows = "file,label\n000.png,Cat\n001.png,cat\n002.png,big  dog\n003.png,Big dog\n004.png,cat\n"
    folder = make({".": 5}, {"labels.csv": rows})
    for settings in ({}, {"labels": str(folder / "labels.csv")}):
        (warning,) = said(folder, Warned, **settings)
        assert warning.startswith(f"2 pairs of classes of {folder} differ only in")
    (folder / "labels.csv").write_text("file,label\n000.png,cat\n001.png,cat\n002.png,dog\n003.png,dog\n")
    assert said(folder, Warned) == []


# Numbers


def test_folders_called_by_numbers_are_in_their_order(make: Callable[..., Path]) -> None:
    folder = make({str(number): number for number in range(1, 13)})
    assert read(folder).classes == tuple(map(str, range(1, 13)))
    assert images_of(read(folder)) == {"train": {str(number): number for number in range(1, 13)}}


def test_names_that_are_no_numbers_come_after_numbers(make: Callable[..., Path]) -> None:
    folder = make(dict.fromkeys(["cat", "10", "2", "02", "a10", "a2", "²"], 1))
    assert read(folder).classes == ("02", "2", "10", "a10", "a2", "cat", "²")


def test_a_run_with_another_order_of_classes_is_judged_by_name_and_not_resumed(
    make: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    run_cli: Callable[..., Outcome],
    tiny: tuple[str, ...],
) -> None:
    """Earlier versions sorted folders as words: the labels of their runs must not be taken for others."""
    folder = make({str(number): 6 for number in range(1, 13)})
    with monkeypatch.context() as before:
        before.setattr(source, "natural", str)
        assert read(folder).classes[:4] == ("1", "10", "11", "12")
        options = (*tiny, "--epochs", 5, "--lr", 0.01, "--name", "old", "--device", "cpu")
        assert run_cli("train", folder, *options).code == 0
        first = json.loads(run_cli("eval", "--model", "old", "--json").out)
    later = run_cli("eval", "--model", "old", "--json")
    assert later.code == 0
    assert "has changed since this model was trained: all " in later.err
    assert "held out of the training images then still exist" in later.err
    assert json.loads(later.out)["metrics"] == first["metrics"]
    assert len({row["recall"] for row in first["metrics"]["classes"]}) > 1  # so that a wrong order would be seen
    outcome = run_cli("train", "--resume", "old", "--epochs", 6)
    assert outcome.code == 1
    assert "is not the data of run old" in outcome.err


@pytest.mark.parametrize(
    ("labels", "wanted", "alike"),
    [
        ("1 1.0 2", ["1", "1", "2"], ["1, 1.0"]),
        ("01 1. 2.00", ["1", "1", "2"], ["01, 1."]),
        ("1.0 1.0 2.0", ["1.0", "1.0", "2.0"], []),
    ],
)
def test_equal_numbers_are_one_class(
    make: Callable[..., Path], labels: str, wanted: list[str], alike: list[str]
) -> None:
    rows = "".join(f"{at:03d}.png,{label}\n" for at, label in enumerate(labels.split()))
    folder = make({".": 3}, {"labels.csv": f"file,label\n{rows}"})
    assert list(labels_of(read(folder)).values()) == wanted
    assert said(folder, Note)[1:] == [
        f"column 'label' of {folder / 'labels.csv'} has the labels {each}: equal numbers are one class"
        for each in alike
    ]


def test_equal_numbers_beside_words_are_explained(make: Callable[..., Path]) -> None:
    folder = make({".": 3}, {"labels.csv": "file,label\n000.png,1\n001.png,1.0\n002.png,cat\n"})
    assert refusal(folder).message == (
        f"column 'label' of {folder / 'labels.csv'} has the labels 1, 1.0, and others that are not whole numbers: are"
        " they one class?"
    )


# Linked folders


def test_linked_folders_below_classes_are_explained(make: Callable[..., Path], tmp_path: Path) -> None:
    folder = make({"cat": 2, "dog": 2})
    (folder / "dog" / "more").symlink_to(folder / "cat")
    (warning,) = said(folder, Warned)
    assert warning == (
        f"linked folders below {folder} are not followed: dog/more; link class folders or single images, or `cp -rL"
        " FOLDER COPY` makes a folder without links"
    )
    assert images_of(read(folder)) == {"train": {"cat": 2, "dog": 2}}
    (tmp_path / "eels").mkdir()
    (folder / "eel").mkdir()
    (folder / "eel" / "all").symlink_to(tmp_path / "eels")
    error = refusal(folder)
    assert error.message == (f"class 'eel' has no images in {folder}, except in linked folders, which are not followed")
    assert "link class folders" in error.hint
    assert read(folder, on_bad_image="skip").left_out == {"of 3 class folders without images": ("eel",)}


def test_linked_classes_and_images_are_read(make: Callable[..., Path]) -> None:
    folder = make({"cat": 2, "dog": 2})
    (folder / "dog" / "x.png").symlink_to(folder / "cat" / "000.png")
    (folder / "eel").symlink_to(folder / "cat")
    assert images_of(read(folder)) == {"train": {"cat": 2, "dog": 3, "eel": 2}}
    assert said(folder, Warned) == []


def test_linked_folders_beside_a_table_are_explained(make: Callable[..., Path]) -> None:
    elsewhere = make({".": 2})
    folder = elsewhere.parent / "linked"
    folder.mkdir()
    (folder / "images").symlink_to(elsewhere)
    (folder / "labels.csv").write_text("file,label\n000.png,cat\n001.png,dog\n")
    error = refusal(folder)
    assert error.message == f"{folder} has no images, except in linked folders, which are not followed"
    (folder / "000.png").symlink_to(elsewhere / "000.png")
    (folder / "001.png").symlink_to(elsewhere / "001.png")
    assert any("are not followed: images;" in text for text in said(folder, Warned))


# Hugging Face's image folders


CSV = "file_name,label\n000.png,cat\n001.png,dog\n"
JSON = '{"file_name": "000.png", "label": 0, "text": null}\n\n{"file_name": "001.png", "label": 1}\n'


def test_metadata_of_splits_are_labels(make: Callable[..., Path]) -> None:
    splits = ("train", "validation", "test")
    folder = make(dict.fromkeys(splits, 2), {f"{split}/metadata.csv": CSV for split in splits})
    raw = read(folder)
    assert raw.classes == ("cat", "dog")
    assert {name: labels_of(raw, name) for name in raw.splits} == {
        name: {f"{split}/000.png": "cat", f"{split}/001.png": "dog"}
        for name, split in zip(["train", "val", "test"], splits, strict=True)
    }
    assert said(folder, Note) == [
        f"labels: {folder}/*/metadata.csv, images in 'file_name', labels in 'label'",
        f"splits: column 'split folder' of {folder}/*/metadata.csv",
    ]


def test_metadata_may_be_json_lines(make: Callable[..., Path]) -> None:
    folder = make({"train/images": 2, "test": 2}, {"train/metadata.jsonl": JSON.replace("0", "images/0", 1)})
    (folder / "train" / "metadata.jsonl").write_text(JSON.replace('"00', '"images/00'))
    (folder / "test" / "metadata.jsonl").write_text(JSON)
    raw = read(folder)
    assert labels_of(raw) == {"train/images/000.png": "0", "train/images/001.png": "1"}
    assert labels_of(raw, "test") == {"test/000.png": "0", "test/001.png": "1"}
    assert raw.passed_over == {}


def test_metadata_without_splits_may_be_json_lines(make: Callable[..., Path]) -> None:
    folder = make({"data": 2}, {"data/metadata.jsonl": JSON})
    assert labels_of(read(folder)) == {"000.png": "0", "001.png": "1"}
    assert labels_of(read(folder, labels=str(folder / "data" / "metadata.jsonl"))) == {
        "data/000.png": "0",
        "data/001.png": "1",
    }


def test_metadata_of_images_for_training_alone_are_labels(make: Callable[..., Path]) -> None:
    folder = make({"train": 2, "test": 2}, {"train/metadata.csv": CSV})
    raw = read(folder)
    assert {name: labels_of(raw, name) for name in raw.splits} == {
        "train": {"train/000.png": "cat", "train/001.png": "dog"}
    }


@pytest.mark.parametrize(
    ("files", "message", "hint"),
    [
        ({"train/metadata.jsonl": "[1]\n"}, "train/metadata.jsonl has lines that are not JSON", '{"file_name": '),
        ({"train/metadata.jsonl": "{\n"}, "train/metadata.jsonl has lines that are not JSON", '{"file_name": '),
        ({"train/metadata.jsonl": "\n"}, "train/metadata.jsonl is empty", "a row per image"),
        ({"train/metadata.parquet": "PAR1\0"}, "train/metadata.parquet is a Parquet file", "CSV"),
        ({"train/metadata.csv": "file_name,a,b\n000.png,x,y\n"}, "which column of", "--label-column NAME"),
        (
            {"train/metadata.csv": CSV, "test/metadata.csv": "file_name\n000.png\n"},
            "1 of 3 rows without a label: test/000.png",
            "fix the table",
        ),
        ({"test/metadata.csv": CSV}, "train has no class subfolders", "a subfolder"),
    ],
)
def test_metadata_of_no_use_are_explained(
    make: Callable[..., Path], files: dict[str, str], message: str, hint: str
) -> None:
    error = refusal(make({"train": 2, "test": 2}, files))
    assert message in error.message
    assert hint in error.hint


def test_metadata_beside_class_folders_are_not_read_and_that_is_said(make: Callable[..., Path]) -> None:
    folder = make({"train/cat": 2, "train/dog": 2}, {"train/metadata.csv": CSV})
    assert read(folder).classes == ("cat", "dog")
    assert said(folder, Note) == [
        f"the folders of {folder} are the classes, so {folder}/train/metadata.csv is not read"
    ]


@given(content=st.one_of(st.binary(max_size=99), st.from_regex(r'([\[{"a1:,\]}]|null|\n){0,20}').map(str.encode)))
def test_no_json_lines_end_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("json") / "labels.jsonl"
    path.write_bytes(content)
    try:
        table = read_table(path, is_image=lambda _: False, emit=ignore)
    except DataError:
        return
    assert all(isinstance(cell, str) for row in [table.header, *table.rows] for cell in row)


# One-hot labels


def one_hot(*rows: str, header: str = "image,cat,dog,bird") -> dict[str, str]:
    return {"labels.csv": "\n".join([header, *(f"{at:03d}.png,{row}" for at, row in enumerate(rows))])}


def test_one_hot_columns_are_labels_and_that_is_said(make: Callable[..., Path]) -> None:
    folder = make({".": 4}, one_hot("1,0,0", "0,0,1", "0.0,1.0,0.0", "1,0,0"))
    raw = read(folder)
    assert raw.classes == ("bird", "cat", "dog")
    assert list(labels_of(raw).values()) == ["cat", "bird", "dog", "cat"]
    assert said(folder, Note) == [
        f"labels: {folder}/labels.csv, images in 'image', labels in 'cat, dog, bird (one-hot)'"
    ]


def test_one_hot_columns_may_have_others_beside(make: Callable[..., Path]) -> None:
    folder = make({".": 3}, one_hot("7,1,0,train", "8,0,1,train", "9,0,1,val", header="image,age,cat,dog,split"))
    raw = read(folder)
    assert (labels_of(raw), labels_of(raw, "val")) == ({"000.png": "cat", "001.png": "dog"}, {"002.png": "dog"})


@pytest.mark.parametrize(
    ("rows", "header", "message", "hint"),
    [
        (
            ("1,0,1", "0,1,0", "1,1,1"),
            "image,cat,dog,bird",
            "2 rows of {} with a 1 in several of the columns cat, dog, bird: 000.png, 002.png",
            "an image can have one class only",
        ),
        (("0,0,0", "0,1,0", "1,0,0"), "image,cat,dog,bird", "1 of 3 rows without a label: 000.png", "fix the table"),
        (
            ("7,0,0", "8,1,1"),
            "image,age,sick,old",
            "which column of {} is the label: age, sick, old?",
            "--label-column",
        ),
        (("1,2", "2,1"), "image,cat,dog", "which column of {} is the label: cat, dog?", "--label-column"),
    ],
)
def test_columns_that_are_not_quite_one_hot_are_explained(
    make: Callable[..., Path], rows: tuple[str, ...], header: str, message: str, hint: str
) -> None:
    folder = make({".": 3}, one_hot(*rows, header=header))
    error = refusal(folder)
    assert error.message == message.format(folder / "labels.csv")
    assert hint in error.hint


def test_one_of_several_binary_columns_may_be_named(make: Callable[..., Path]) -> None:
    folder = make({".": 3}, one_hot("1,0", "1,1", "0,1", header="image,sick,old"))
    assert list(labels_of(read(folder, label_column="sick")).values()) == ["1", "1", "0"]


@pytest.mark.parametrize("above", ["", "a", "a/b", "a/b/c"])
def test_outer_folders_are_skipped_however_many(image_folder: Callable[..., Path], tmp_path: Path, above: str) -> None:
    image_folder(tmp_path / "outer" / above / "Dataset", {"0": 2, "1": 2})
    raw = any_folder.read(tmp_path / "outer", DataConfig(name="outer"), ignore)
    assert (raw.name, raw.classes) == ("outer", ("0", "1"))


@pytest.mark.parametrize("above", ["Dataset", "a/Dataset", "a/b/Dataset"])
def test_a_folder_of_classes_beside_images_is_no_class(
    image_folder: Callable[..., Path], tmp_path: Path, above: str
) -> None:
    image_folder(tmp_path, {f"{above}/0": 2, f"{above}/1": 2, "Examples": 2})
    outer = above.partition("/")[0]
    with pytest.raises(DataError, match=f"{outer} holds only folders of images, and Examples/") as caught:
        any_folder.read(tmp_path, DataConfig(name="x"), ignore)
    assert f"`vit train {tmp_path / above}`, if" in caught.value.hint


@pytest.mark.parametrize(
    "counts",
    [
        {"cat": 2, "dog": 1, "dog/2020/jan": 2, "dog/2020/feb": 2},  # its own images lie above the folders
        {"cat": 2, "dog/2020": 1, "dog/2020/jan": 2, "dog/2020/feb": 2},
        {"cat": 2, "dog/2020": 2},
    ],
)
def test_a_class_may_have_folders(image_folder: Callable[..., Path], tmp_path: Path, counts: dict[str, int]) -> None:
    raw = any_folder.read(image_folder(tmp_path / "x", counts), DataConfig(name="x"), ignore)
    assert raw.classes == ("cat", "dog")
    assert len(raw.splits["train"].labels) == sum(counts.values())


def test_a_class_called_like_a_split_keeps_its_own_images(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    image_folder(tmp_path / "x", {"bus": 2, "train": 2, "train/old/raw/a": 2, "train/old/raw/b": 2})
    raw = any_folder.read(tmp_path / "x", DataConfig(name="x"), ignore)
    assert (raw.classes, len(raw.splits["train"].labels)) == (("bus", "train"), 8)


def test_classes_that_all_hold_folders_are_classes(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    image_folder(tmp_path, {"cat/2020": 2, "cat/2021": 2, "dog/2020": 2, "dog/2022": 2})
    assert any_folder.read(tmp_path, DataConfig(name="x"), ignore).classes == ("cat", "dog")
