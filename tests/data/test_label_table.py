"""Labels in tables: any encoding, delimiter and way of writing names; what is of no use is counted and named."""

import csv
import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError
from vitcli.core.events import Event, Note, Warned, ignore
from vitcli.data.raw import FileSplit, RawDataset
from vitcli.data.sources import folder as any_folder
from vitcli.data.sources import label_table
from vitcli.data.sources.image_index import ImageIndex
from vitcli.data.sources.names import is_for_testing
from vitcli.data.sources.table_file import read_table

NAMES = ("a.jpg", "b.jpg", "c.png", "d.jpg")
ROWS = "image_id,label\na.jpg,cat\nb.jpg,dog\nc.png,cat\nd.jpg,dog\n"


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4)).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in NAMES:
        picture(tmp_path / "photos" / name)
    return tmp_path / "photos"


def read(photos: Path, content: str | bytes, *, emit: Callable[[Event], None] = ignore, **settings: str) -> RawDataset:
    table = photos.parent / "labels.csv"
    table.write_bytes(content.encode() if isinstance(content, str) else content)
    return label_table.read(photos, [table], DataConfig(**settings), emit)


def pairs(raw: RawDataset[FileSplit], split: str = "train") -> dict[str, str]:
    part = raw.splits[split]
    return {file.name: raw.classes[label] for file, label in zip(part.files, part.labels, strict=True)}


WANTED = {"a.jpg": "cat", "b.jpg": "dog", "c.png": "cat", "d.jpg": "dog"}


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        ROWS.replace(",", ";"),
        ROWS.replace(",", "\t"),
        ROWS.replace("\n", "\r\n"),
        "\ufeff" + ROWS,
        "sep=;\r\n" + ROWS.replace(",", ";"),
        "\n\n" + ROWS.replace("\n", "\n\n"),
        ROWS.replace(".jpg", "").replace(".png", ""),
        ROWS.replace("a.jpg", "photos/a.jpg").replace("b.jpg", "/somewhere/photos/b.jpg").replace("c.png", "./c.png"),
        ROWS.replace("a.jpg", "photos\\a.jpg"),
        ROWS.replace("a.jpg,cat", '"a.jpg" , "cat"'),
        "label,width,image\ncat,6,a.jpg\ndog,6,b.jpg\ncat,6,c.png\ndog,6,d.jpg\n",
        "a.jpg,cat\nb.jpg,dog\nc.png,cat\nd.jpg,dog\n",
        "a.jpg cat\nb.jpg dog\nc.png cat\nd.jpg dog\n",
        "image_id,label,\na.jpg,cat,\nb.jpg,dog,\nc.png,cat,\nd.jpg,dog,\n",
    ],
    ids=[
        *(
            "plain",
            "semicolons",
            "tabs",
            "windows",
            "bom",
            "stated",
            "blank lines",
            "no suffixes",
            "folders",
            "backslashes",
        ),
        *("quotes", "other columns", "no header", "list", "trailing commas"),
    ],
)
def test_ways_of_writing_a_table(photos: Path, content: str) -> None:
    raw = read(photos, content)
    assert pairs(raw) == WANTED
    assert raw.classes == ("cat", "dog")
    assert raw.root == photos


def test_utf_16_is_read(photos: Path) -> None:
    assert pairs(read(photos, ROWS.encode("utf-16"))) == WANTED


def test_windows_letters_are_read_and_that_is_said(photos: Path) -> None:
    events: list[Event] = []
    raw = read(photos, ROWS.replace("cat", "Kätzchen").encode("cp1252"), emit=events.append)
    assert raw.classes == ("Kätzchen", "dog")
    assert any(isinstance(event, Warned) and "not UTF-8" in event.text for event in events)


def test_what_was_guessed_is_said_and_what_was_given_is_not(photos: Path) -> None:
    events: list[Event] = []
    read(photos, ROWS, emit=events.append)
    assert [event.text.partition(", ")[2] for event in events if isinstance(event, Note)] == [
        "images in 'image_id', labels in 'label'"
    ]
    events.clear()
    read(photos, ROWS, emit=events.append, image_column="image_id", label_column="label")
    assert events == []


def test_columns_that_are_not_obvious_are_asked_for(photos: Path) -> None:
    content = "image,colour,size\na.jpg,red,big\nb.jpg,blue,big\nc.png,red,small\nd.jpg,red,small\n"
    with pytest.raises(DataError, match=r"which column .* is the label: colour, size") as refusal:
        read(photos, content)
    assert "--label-column" in refusal.value.hint
    assert read(photos, content, label_column="size").classes == ("big", "small")
    with pytest.raises(DataError, match="no column 'colur'") as refusal:
        read(photos, content, label_column="colur")
    assert "did you mean 'colour'?" in refusal.value.hint


def test_a_column_that_is_there_twice_is_refused(photos: Path) -> None:
    content = ROWS.replace("image_id,label", "image_id,label,label").replace("\n", ",x\n").replace("label,x", "label")
    with pytest.raises(DataError, match="2 columns called 'label'"):
        read(photos, content, label_column="label")


def test_rows_without_images_are_counted_and_named(photos: Path) -> None:
    content = ROWS + "x.jpg,cat\ny.jpg,dog\n"
    with pytest.raises(DataError, match=r"2 of 6 rows with images that are not there: x.jpg, y.jpg"):
        read(photos, content)
    events: list[Event] = []
    assert pairs(read(photos, content, emit=events.append, on_bad_image="skip")) == WANTED
    assert any(isinstance(event, Warned) and "left out: 2 of 6 rows" in event.text for event in events)


def test_images_without_rows_are_counted_and_named(photos: Path) -> None:
    picture(photos / "e.jpg")
    picture(photos / "test_images" / "f.jpg")
    events: list[Event] = []
    raw = read(photos, ROWS, emit=events.append)
    assert pairs(raw) == WANTED
    assert raw.passed_over == {
        "for testing, without a row": ("test_images/f.jpg",),
        "without a row": ("e.jpg",),
    }


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        *((name, True) for name in ("test", "Tests", "testing", "test1", "test_images", "test-set", "testImages")),
        *((name, True) for name in ("TestSet", "sample_submission", "sampleSubmission", "submission", "sample")),
        *((name, False) for name in ("testis", "sample_1", "samples_2020", "latest", "testament", "sampled", "")),
    ],
)
def test_folders_for_testing_are_called_so_by_a_whole_word(name: str, *, wanted: bool) -> None:
    assert is_for_testing(name) == wanted


def test_files_for_testing_may_be_called_so_at_the_end() -> None:
    assert is_for_testing("labels_test", by_its_end=True)
    assert is_for_testing("genderSubmission", by_its_end=True)
    assert not is_for_testing("latest", by_its_end=True)
    assert not is_for_testing("lab_test")


def test_folders_with_names_like_test_are_for_training(tmp_path: Path) -> None:
    for name in ("testis/1.jpg", "testis/2.jpg", "sample_1/3.jpg", "sample_1/4.jpg", "testis/5.jpg"):
        picture(tmp_path / "photos" / name)
    raw = read(tmp_path / "photos", "image,label\n1.jpg,a\n2.jpg,b\n3.jpg,a\n4.jpg,b\n")
    assert raw.passed_over == {"without a row": ("testis/5.jpg",)}


def test_rows_that_disagree_are_refused_or_left_out(photos: Path) -> None:
    content = ROWS + "a.jpg,dog\n"
    with pytest.raises(DataError, match=r"1 of \d images with rows that disagree about the label: a.jpg"):
        read(photos, content)
    assert "a.jpg" not in pairs(read(photos, content, on_bad_image="skip"))


def test_rows_that_agree_count_once(photos: Path) -> None:
    events: list[Event] = []
    assert pairs(read(photos, ROWS + "a.jpg,cat\n", emit=events.append)) == WANTED
    assert any(isinstance(event, Warned) and "1 row repeats other rows" in event.text for event in events)


def test_a_name_that_several_images_have_needs_its_folder(photos: Path) -> None:
    picture(photos / "more" / "a.jpg")
    assert pairs(read(photos, ROWS)) == WANTED  # a.jpg itself is meant
    picture(photos / "other" / "b.jpg")
    (photos / "b.jpg").rename(photos / "more" / "b.jpg")
    with pytest.raises(DataError, match=r"line 3 .* names 'b.jpg', which may be"):
        read(photos, ROWS)
    assert len(pairs(read(photos, ROWS.replace("b.jpg", "more/b.jpg")))) == 4


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("image_id,label\n", "has a header and no rows"),
        ("image_id,label\na.jpg,cat,fat\n", "line 2 .* has 3 cells, but there are 2 columns"),
        ("image_id,label\nx,cat\ny,dog\n", "no column .* names images"),
        ("image_id,label\na.jpg,cat\nb.jpg,cat\n", "has one class only: 'cat'"),
        ("image_id,label\na.jpg,\nb.jpg,cat\n", "1 of 2 rows without a label: a.jpg"),
    ],
)
def test_tables_of_no_use(photos: Path, content: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as refusal:
        read(photos, content)
    assert refusal.value.hint


def test_a_first_row_without_its_image_is_no_header(photos: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 5 rows with images that are not there: gone.png"):
        read(photos, "gone.png,cat\n" + ROWS.partition("\n")[2])


def test_a_column_of_numbers_is_no_label(tmp_path: Path) -> None:
    for number in range(120):
        picture(tmp_path / "photos" / f"{number}.png")
    content = "image,label\n" + "".join(f"{number}.png,{number}\n" for number in range(120))
    with pytest.raises(DataError, match="a different value for each of 120 images: is this the label"):
        read(tmp_path / "photos", content)


def test_numbers_are_in_the_order_of_numbers(photos: Path) -> None:
    raw = read(photos, "image,label\na.jpg,10\nb.jpg,9\nc.png,10\nd.jpg,9\n")
    assert raw.classes == raw.values == ("9", "10")


@pytest.mark.parametrize("content", [{"0": "cat", "1": "dog"}, {"cat": 0, "dog": 1}, ["cat", "dog"]])
def test_a_label_map_gives_classes_their_names(photos: Path, content: object) -> None:
    (photos / "map.json").write_text(json.dumps(content))
    raw = read(photos, ROWS.replace("cat", "0").replace("dog", "1"))
    assert raw.classes == ("cat", "dog")
    assert raw.values == ("0", "1")
    assert pairs(raw) == WANTED


@pytest.mark.parametrize("is_given", [False, True])
def test_numbers_do_not_replace_names(photos: Path, *, is_given: bool) -> None:
    """As of the file ``class_indices.json`` that Keras users keep beside their images."""
    (photos / "map.json").write_text('{"cat": 0, "dog": 1}')
    assert read(photos, ROWS, label_map=str(photos / "map.json") if is_given else "").classes == ("cat", "dog")
    (photos / "map.json").write_text('{"cat": 2019, "dog": 2020}')
    found = read(photos, ROWS, label_map=str(photos / "map.json") if is_given else "").classes
    assert found == (("2019", "2020") if is_given else ("cat", "dog"))


def test_more_classes_may_be_in_a_map_than_in_a_table(photos: Path, tmp_path: Path) -> None:
    rows = ROWS.replace("cat", "0").replace("dog", "1")
    (photos / "map.json").write_text('{"cat": 0, "dog": 1, "bird": 2}')
    assert read(photos, rows).classes == ("cat", "dog")
    (tmp_path / "given.json").write_text('{"cat": 0, "kitty": 0, "dog": 1}')
    assert read(photos, rows, label_map=str(tmp_path / "given.json")).classes == ("kitty", "dog")


@pytest.mark.parametrize(
    "content",
    [
        {"a.jpg": "0", "b.jpg": "1", "c.png": "0", "d.jpg": "1"},  # annotations
        {"version": 1, "seed": 0, "number": 6},
        ["c.png", "d.jpg"],
        ["c", "d", "e"],
        {"0": "a red car", "1": "a blue bus", "2": "a cat"},
        {"c.png": 0, "d.jpg": 1},
        7,
        "text",
    ],
)
def test_other_files_give_classes_no_names(photos: Path, content: object) -> None:
    (photos / "other.json").write_text(json.dumps(content))
    assert read(photos, ROWS.replace("cat", "0").replace("dog", "1")).classes == ("0", "1")


def test_a_found_map_with_more_entries_than_labels_is_named(photos: Path) -> None:
    (photos / "names.json").write_text('["cat", "dog", "bird"]')
    rows, told = ROWS.replace("cat", "0").replace("dog", "1"), list[Event]()
    assert read(photos, rows, emit=told.append).classes == ("0", "1")
    assert "names.json has 3 entries, but there are 2 labels" in "".join(getattr(each, "text", "") for each in told)
    assert read(photos, rows, label_map=str(photos / "names.json")).classes == ("cat", "dog")
    (photos / "names.json").write_text('["b.jpg", "c.png", "d.jpg"]')
    told.clear()
    read(photos, rows, emit=told.append)
    assert "names.json" not in "".join(getattr(each, "text", "") for each in told)


@pytest.mark.parametrize(
    "values",
    [(2.0, 1.0), ("120", "95"), ({"images": 3}, {"images": 4}), ("#ff0000", "#0f0"), ("60 %", "40%")],
)
def test_facts_about_classes_are_not_their_names(photos: Path, values: tuple[object, object]) -> None:
    """The weights, numbers, colours and shares of classes, as other programs store them beside the images."""
    (photos / "facts.json").write_text(json.dumps(dict(zip(("cat", "dog"), values, strict=True))))
    assert read(photos, ROWS).classes == ("cat", "dog")
    (photos / "facts.json").write_text(json.dumps({"cat": "Felis catus", "dog": "Canis familiaris"}))
    assert read(photos, ROWS).classes == ("Felis catus", "Canis familiaris")


def test_numbers_of_rows_name_no_images(tmp_path: Path) -> None:
    for number in range(6):
        picture(tmp_path / "photos" / f"{number}.jpg")
    labels = ["cat", "cat", "cat", "dog", "dog", "dog"]
    rows = [f"{number},{5 - number}.jpg,{labels[5 - number]}" for number in range(6)]
    raw = read(tmp_path / "photos", "\n".join([",file,label", *rows]))
    assert pairs(raw) == {f"{number}.jpg": label for number, label in enumerate(labels)}


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    """Images for training and for testing that are numbered alike; one for training is missing."""
    for folder, number in [("train", 0), ("train", 1), ("train", 2), *(("test", number) for number in range(4))]:
        picture(tmp_path / "both" / folder / f"{number}.jpg")
    return tmp_path / "both"


def test_an_image_for_testing_does_not_stand_in_for_a_missing_one(competition: Path) -> None:
    rows = "image,label\n0.jpg,cat\n1.jpg,dog\n2.jpg,cat\n3.jpg,dog\n"
    with pytest.raises(DataError, match=r"1 of 4 rows with images that are not there: 3.jpg"):
        read(competition, rows)
    assert len(pairs(read(competition, rows.replace("3.jpg", "test/3.jpg")))) == 4
    (competition / "test" / "0.jpg").rename(competition / "test" / "9.jpg")
    splits = read(competition, "image,label,split\n0.jpg,cat,train\n1.jpg,dog,train\n9.jpg,cat,test\n").splits
    assert {name: len(split.files) for name, split in splits.items()} == {"train": 2, "test": 1}


def test_one_hot_labels_of_a_competition_are_read(competition: Path) -> None:
    raw = read(competition, "image,healthy,rust\n0.jpg,1,0\n1.jpg,0,1\n2.jpg,1,0\n")
    assert pairs(raw) == {"0.jpg": "healthy", "1.jpg": "rust", "2.jpg": "healthy"}


def test_tables_that_are_not_read_are_named(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    image_folder(tmp_path / "ham", {"part_1": 2, "part_2": 2})
    for name in ("features.csv", "labels 1.CSV", "train.TSV", "sample_submission.csv", "other.csv"):
        (tmp_path / "ham" / name).write_text("x,y\n1,2\n")
    told: list[Event] = []
    any_folder.read(tmp_path / "ham", DataConfig(), told.append)
    (warning,) = [event.text for event in told if isinstance(event, Warned)]
    assert "tables are not read (labels 1.CSV, train.TSV, features.csv, other.csv)" in warning
    assert f"--labels '{tmp_path}/ham/labels 1.CSV' takes one" in warning


def test_a_file_of_tabs_does_not_replace_folders_of_classes(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    image_folder(tmp_path / "pets", {"cat": 2, "dog": 2})
    (tmp_path / "pets" / "boxes.tsv").write_text("image\twidth\n000.png\t100\n001.png\t200\n")
    assert any_folder.read(tmp_path / "pets", DataConfig(), ignore).classes == ("cat", "dog")


def test_a_label_map_that_lacks_a_label_is_refused(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"0": "cat"}')
    with pytest.raises(DataError, match="lacks a name for 1 of 2 labels: 1"):
        read(photos, ROWS.replace("cat", "0").replace("dog", "1"), label_map=str(tmp_path / "map.json"))
    with pytest.raises(DataError, match="no such label map"):
        read(photos, ROWS, label_map=str(tmp_path / "absent.json"))


def test_a_column_of_splits_is_honoured(photos: Path) -> None:
    content = "image,label,split\na.jpg,cat,train\nb.jpg,dog,Train\nc.png,cat,valid\nd.jpg,dog,test\n"
    raw = read(photos, content)
    assert {name: pairs(raw, name) for name in raw.splits} == {
        "train": {"a.jpg": "cat", "b.jpg": "dog"},
        "val": {"c.png": "cat"},
        "test": {"d.jpg": "dog"},
    }


def test_composed_and_decomposed_letters_are_the_same(photos: Path) -> None:
    (photos / "a.jpg").rename(photos / unicodedata.normalize("NFD", "Äpfel.jpg"))
    raw = read(photos, ROWS.replace("a.jpg", unicodedata.normalize("NFC", "Äpfel.jpg")))
    assert len(pairs(raw)) == 4


def test_a_folder_with_a_table_is_recognised_by_itself(photos: Path) -> None:
    (photos / "train.csv").write_text(ROWS)
    (photos / "sample_submission.csv").write_text("image_id,label\nx.jpg,cat\n")
    raw = any_folder.read(photos, DataConfig(), ignore)
    assert pairs(raw) == WANTED


def test_a_table_beside_split_folders_is_passed_over(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    counts = {f"{split}/{name}": 2 for split in ("train", "valid", "test") for name in ("ant", "bee")}
    image_folder(tmp_path / "insects", counts)
    (tmp_path / "insects" / "insects.csv").write_text("class id,filepaths,labels,data set\n0,x.jpg,ant,train\n")
    raw = any_folder.read(tmp_path / "insects", DataConfig(), ignore)
    assert raw.splits.keys() == {"train", "val", "test"}


def test_what_an_archive_wrapped_into_one_folder_is_unwrapped(
    image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    image_folder(tmp_path / "pets" / "PetImages", {"cat": 2, "dog": 2})
    told: list[Event] = []
    raw = any_folder.read(tmp_path / "pets", DataConfig(), told.append)
    assert raw.classes == ("cat", "dog")
    assert raw.name == "pets"
    assert [event.text for event in told if isinstance(event, Note)] == [
        f"{tmp_path / 'pets'} has only folders in folders: its images are read from {tmp_path / 'pets' / 'PetImages'}"
    ]


words = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n", exclude_categories=("Cs",)), min_size=1)


@given(
    rows=st.lists(st.tuples(words, words), min_size=2, max_size=20),
    delimiter=st.sampled_from(",;\t|"),
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.sampled_from([b"", b"\xef\xbb\xbf"]),
)
def test_what_a_csv_writer_wrote_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], delimiter: str, end: str, bom: bytes
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
    writer.writerows([("image", "label"), *rows])
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    path.write_bytes(bom + text.getvalue().encode())
    table = read_table(path, is_image=lambda _: False, emit=ignore)
    assert table.header == ("image", "label")
    assert table.rows == [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]


@given(content=st.binary(max_size=300))
def test_no_file_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    path.write_bytes(content)
    try:
        table = read_table(path, is_image=lambda _: False, emit=ignore)
    except DataError:
        return
    assert all(len(row) == len(table.header) for row in table.rows)


@given(
    names=st.sets(
        st.text(st.characters(categories=("L", "N", "Zs"), include_characters="-_.'(),"), min_size=1, max_size=12)
        .map(lambda name: unicodedata.normalize("NFC", name).strip().strip("."))
        .filter(lambda name: name and len(name.encode()) < 100),
        min_size=1,
        max_size=5,
    )
)
def test_odd_names_are_found(tmp_path_factory: pytest.TempPathFactory, names: set[str]) -> None:
    folder = tmp_path_factory.mktemp("odd")
    files = {name: folder / "deep" / f"{name}.jpg" for name in names}
    (folder / "deep").mkdir()
    for file in files.values():
        file.touch()
    index = ImageIndex(folder)
    for name, file in files.items():
        assert index.find(f"{name}.jpg") == [file]
        assert index.find(f"deep/{name}.jpg") == [file]
        assert file in index.find(name)


def test_tens_of_thousands_of_rows_are_read(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(300):
        (tmp_path / "images" / f"{number}.jpg").touch()
    rows = "".join(f"{number % 300}.jpg,{number % 300 % 7}\n" for number in range(20_000))
    events: list[Event] = []
    raw = read(tmp_path / "images", "image,label\n" + rows, emit=events.append)
    assert np.bincount(raw.splits["train"].labels).sum() == 300
    assert any(isinstance(event, Warned) and event.text.startswith("19,700") for event in events)


def test_splits_that_are_not_known_are_named(photos: Path) -> None:
    content = "image,label,split\na.jpg,cat,train\nb.jpg,dog,train\nc.png,cat,later\nd.jpg,dog,train\n"
    with pytest.raises(DataError, match="splits that are not known: 'later'"):
        read(photos, content)


def test_labels_that_are_called_like_images_are_no_names(tmp_path: Path) -> None:
    for number in range(6):
        picture(tmp_path / "photos" / f"{number}.png")
    content = "id,label\ngone.png,1\n" + "".join(f"{number}.png,{number % 2}\n" for number in range(6))
    raw = read(tmp_path / "photos", content, on_bad_image="skip")
    assert len(pairs(raw)) == 6
    assert list(raw.left_out.values()) == [("gone.png",)]


def test_rows_that_all_disagree_leave_nothing(photos: Path) -> None:
    content = ROWS + "".join(f"{name},bird\n" for name in NAMES)
    with pytest.raises(DataError, match=r"no row of .* can be used"):
        read(photos, content, on_bad_image="skip")


def test_images_for_testing_do_not_make_names_ambiguous(tmp_path: Path) -> None:
    for folder in ("train", "test"):
        for name in NAMES:
            picture(tmp_path / "photos" / folder / name)
    events: list[Event] = []
    raw = read(tmp_path / "photos", ROWS, emit=events.append)
    assert {file.parent.name for file in raw.splits["train"].files} == {"train"}
    assert raw.passed_over == {"for testing, without a row": tuple(f"test/{name}" for name in NAMES)}
    assert [event.text.partition(" of ")[0] for event in events if "for testing" in getattr(event, "text", "")] == [
        "4 names"
    ]


def test_a_table_of_other_things_beside_class_folders_is_passed_over(
    image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    image_folder(tmp_path / "pets", {"cat": 2, "dog": 2})
    (tmp_path / "pets" / "notes.csv").write_text("day,weather\nmonday,rain\n")
    events: list[Event] = []
    assert any_folder.read(tmp_path / "pets", DataConfig(), events.append).classes == ("cat", "dog")
    assert any(isinstance(event, Note) and "so the folders are taken as the classes" in event.text for event in events)


def test_test_images_without_classes_have_no_labels(image_folder: Callable[..., Path], tmp_path: Path) -> None:
    image_folder(tmp_path / "pets", {"train/cat": 2, "train/dog": 2})
    picture(tmp_path / "pets" / "test" / "1.jpg")
    assert any_folder.read(tmp_path / "pets", DataConfig(), ignore).splits.keys() == {"train"}


def test_two_thousand_images_of_one_name_are_told_apart_at_once(tmp_path: Path) -> None:
    for number in range(2000):
        (tmp_path / f"{number}").mkdir()
        (tmp_path / f"{number}" / "image.png").touch()
    index = ImageIndex(tmp_path)
    assert all(index.find(f"{number}/image.png") == [tmp_path / f"{number}" / "image.png"] for number in range(2000))
    assert all(len(index._by_end[f"{number}", "image.png"]) == 1 for number in range(2000))  # no search among thousands


def test_a_column_that_names_every_image_is_no_label(photos: Path) -> None:
    with pytest.raises(DataError, match="a different value for each of 4 images: is this the label") as caught:
        read(photos, ROWS, image_column="image_id", label_column="image_id")
    assert "--label-column" in caught.value.hint


@pytest.mark.parametrize("nothing", ["", "NaN", "nan"])
def test_rows_without_a_label_are_counted_and_named(photos: Path, nothing: str) -> None:
    content = ROWS.replace("c.png,cat", f"c.png,{nothing}") + "a.jpg,cat\n"
    with pytest.raises(DataError, match=r"1 of 5 rows without a label: c.png"):
        read(photos, content)
    raw = read(photos, content, on_bad_image="skip")
    assert pairs(raw) == {name: label for name, label in WANTED.items() if name != "c.png"}
    assert list(raw.left_out.values()) == [("c.png",)]
    assert not raw.passed_over


def test_names_may_differ_in_capitals_where_there_is_no_doubt(photos: Path) -> None:
    content = ROWS.replace("a.jpg", "A.JPG").replace("b.jpg", "B").replace("c.png", "Photos/C.png")
    assert pairs(read(photos, content)) == WANTED
    picture(photos / "A.jpg")
    picture(photos / "old" / "a.JPG")
    assert ImageIndex(photos).find("A.JPG") == []
    assert ImageIndex(photos).find("a.jpg") == [photos / "a.jpg"]


def test_labels_that_a_program_wrote_with_a_point_are_those_of_the_map(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text('{"0": "cat", "1": "dog"}')
    content = ROWS.replace("cat", "0.0").replace("dog", "1.0")
    assert pairs(read(photos, content, label_map=str(tmp_path / "map.json"))) == WANTED


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ('{"cat": "Cat"}', "lacks a name for 1 of 2 labels: dog"),
        ('{"cat": "pet", "dog": "pet"}', "has the name 'pet' for several labels: cat, dog"),
        ("7", "is not a map from labels to names"),
    ],
)
def test_what_is_wrong_with_a_label_map_is_said(photos: Path, tmp_path: Path, label_map: str, message: str) -> None:
    (tmp_path / "map.json").write_text(label_map)
    with pytest.raises(DataError, match=message):
        read(photos, ROWS, label_map=str(tmp_path / "map.json"))


def test_a_file_that_is_no_text_is_no_table(photos: Path) -> None:
    with pytest.raises(DataError, match="is not text"):
        read(photos, b"PK\x03\x04\x00\x00")


def test_folders_in_a_folder_of_training_images_are_no_classes_where_a_table_has_the_labels(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        picture(tmp_path / "scans" / "train_images" / f"patient {number % 2}" / name)
        picture(tmp_path / "scans" / "test_images" / f"patient {number % 2}" / name)
    (tmp_path / "scans" / "train.csv").write_text(ROWS)
    assert pairs(any_folder.read(tmp_path / "scans", DataConfig(), ignore)) == WANTED


def test_splits_may_be_called_in_several_words(photos: Path) -> None:
    content = "image,label,split\na.jpg,cat,train_set\nb.jpg,dog,Training\nc.png,cat,test set\nd.jpg,dog,test\n"
    raw = read(photos, content)
    assert list(raw.splits) == ["train", "test"]


def test_files_that_are_no_images_are_counted_and_what_belongs_beside_a_table_is_not(photos: Path) -> None:
    for name in ("e.CR2", "notes.txt", "sample_submission.csv"):
        (photos / name).write_text("x")
    assert read(photos, ROWS).passed_over == {".cr2": ("e.CR2",)}


SPLIT_ROWS = "image,label,split\n0.jpg,cat,train\n1.jpg,dog,train\n2.jpg,cat,train\n"


@pytest.mark.parametrize("inside", ["", "images"])
def test_the_column_of_splits_says_which_folder_is_meant(competition: Path, tmp_path: Path, inside: str) -> None:
    if inside:
        (tmp_path / "outer").mkdir()
        competition = competition.rename(tmp_path / "outer" / inside).parent
    test_rows = "0.jpg,dog,test\n1.jpg,dog,test\n2.jpg,cat,testing\n3.jpg,cat,test\n"
    raw = read(competition, SPLIT_ROWS + test_rows)
    assert pairs(raw) == {"0.jpg": "cat", "1.jpg": "dog", "2.jpg": "cat"}
    assert pairs(raw, "test") == {"0.jpg": "dog", "1.jpg": "dog", "2.jpg": "cat", "3.jpg": "cat"}
    assert {name: {file.parent.name for file in split.files} for name, split in raw.splits.items()} == {
        "train": {"train"},
        "test": {"test"},
    }


def test_rows_that_disagree_about_the_split_are_refused_or_left_out(photos: Path) -> None:
    content = "image,label,split\na.jpg,cat,train\nb.jpg,dog,train\nc.png,cat,train\nd.jpg,dog,test\na.jpg,cat,test\n"
    with pytest.raises(DataError, match=r"1 of 4 images with rows that disagree about the split: a.jpg"):
        read(photos, content)
    raw = read(photos, content, on_bad_image="skip")
    assert (pairs(raw), pairs(raw, "test")) == ({"b.jpg": "dog", "c.png": "cat"}, {"d.jpg": "dog"})
    assert len(pairs(read(photos, content.replace("a.jpg,cat,test", "a.jpg,cat,Training")))) == 3


@pytest.mark.parametrize("inside", ["", "cat/"])
def test_rows_of_another_split_name_no_images(tmp_path: Path, inside: str) -> None:
    for name in NAMES:
        picture(tmp_path / "train" / inside / name)
    rows = ROWS.replace("\na", f"\nX/{inside}a").replace("\nb", f"\nX/{inside}b")
    rows = rows.replace("\nc", f"\nX/{inside}c").replace("\nd", f"\nX/{inside}d")
    with pytest.raises(DataError, match=r"no column of .* names images of"):
        read(tmp_path / "train", rows.replace("X", "val"))
    with pytest.raises(DataError, match=f"1 of 5 rows with images that are not there: val/{inside}a.jpg"):
        read(tmp_path / "train", rows.replace("X", "Train") + f"val/{inside}a.jpg,dog\n")
    assert pairs(read(tmp_path / "train", rows.replace("X", "/data/train"))) == WANTED


def test_folders_above_may_be_called_otherwise_on_another_computer(photos: Path) -> None:
    picture(photos / "cats" / "e.jpg")
    assert len(pairs(read(photos, ROWS + "/home/me/pictures/cats/e.jpg,cat\n"))) == 5
    events: list[Event] = []
    rows = ROWS.replace("\na", "\npictures/a").replace("\nb", "\nphotos/b")
    assert pairs(read(photos, rows, emit=events.append)) == WANTED
    (warning,) = [event.text for event in events if isinstance(event, Warned)]
    assert "1 row of" in warning
    assert "with the name of another folder: pictures/a.jpg; images of the same names in" in warning


@pytest.mark.parametrize("beside", ["Image.JPG", "image_id.jpg", "label.png", "sub/Label.png"])
def test_an_image_that_is_called_like_a_column_makes_no_row_of_the_header(photos: Path, beside: str) -> None:
    picture(photos / beside)
    assert pairs(read(photos, ROWS)) == WANTED


@pytest.mark.parametrize("first", ["x9,cat", "x17,y"])
def test_a_first_row_that_looks_like_the_others_is_no_header(tmp_path: Path, first: str) -> None:
    for number in range(1, 5):
        picture(tmp_path / "photos" / f"x{number}.jpg")
    rows = "".join(f"x{number},{'cat' if number % 2 else 'y'}\n" for number in range(1, 5))
    with pytest.raises(DataError, match=f"1 of 5 rows with images that are not there: {first[:-2].rstrip(',c')}"):
        read(tmp_path / "photos", f"{first}\n{rows}")
    assert len(pairs(read(tmp_path / "photos", rows))) == 4


def test_a_header_without_usual_names_is_taken_as_one_and_that_is_said(photos: Path) -> None:
    events: list[Event] = []
    rows = ROWS.partition("\n")[2].replace(".jpg", "").replace(".png", "")
    assert pairs(read(photos, "scan,diagnosis\n" + rows, emit=events.append)) == WANTED
    (warning,) = [event.text for event in events if isinstance(event, Warned)]
    assert "is taken as the names of the columns: 'scan', 'diagnosis'; if it is an image" in warning
    events.clear()
    assert pairs(read(photos, "id_code,diagnosis\n" + rows, emit=events.append)) == WANTED
    assert not [event for event in events if isinstance(event, Warned)]


def test_labels_in_a_list_may_have_several_words(photos: Path) -> None:
    raw = read(photos, "a.jpg golden retriever\nb.jpg cat\nc.png golden retriever\nd.jpg cat\n")
    assert pairs(raw) == {"a.jpg": "golden retriever", "b.jpg": "cat", "c.png": "golden retriever", "d.jpg": "cat"}
    (photos / "a.jpg").rename(photos / "my a.jpg")
    assert len(pairs(read(photos, "my a.jpg golden retriever\nb.jpg cat\n"))) == 2


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (ROWS.replace("dog\nc", '"dog\nc'), 3),
        (ROWS.replace("\nb.jpg", '\n"b.jpg'), 3),
        (ROWS.replace("dog\nc", '"dog\nc').replace("c.png,cat", 'c.png,"cat"'), 3),
    ],
)
def test_a_quote_that_is_not_closed_swallows_no_rows(photos: Path, content: str, line: int) -> None:
    with pytest.raises(DataError, match=f"line {line} of .* has a quote that is not closed") as caught:
        read(photos, content)
    assert "written twice" in caught.value.hint


def test_harmless_quotes_do_not_make_others_wrong(photos: Path) -> None:
    rows = 'image,label,note\n"a.jpg" ,dog,"say "hi""\nb.jpg,cat,"two\nlines"\nc.png,cat,\nd.jpg,dog,\n'
    assert set(pairs(read(photos, rows))) == set(NAMES)


def test_names_in_json_lines_may_begin_with_a_bracket(photos: Path) -> None:
    (photos / NAMES[0]).rename(photos / "[A] 1.jpg")
    table = photos / "metadata.jsonl"
    names = ["[A] 1.jpg", *NAMES[1:]]
    table.write_text("\n".join(f'{{"file_name": "{name}", "label": "[{at % 2}]"}}' for at, name in enumerate(names)))
    assert pairs(label_table.read(photos, [table], DataConfig(), ignore))["[A] 1.jpg"] == "[0]"


def test_a_line_break_is_allowed_in_a_text_only(photos: Path) -> None:
    notes = ROWS.replace("\n", ',"two\nlines"\n').replace('label,"two\nlines"', "label,note")
    assert pairs(read(photos, notes)) == WANTED
    with pytest.raises(DataError, match=r"line 3 of .* has, in column 'label', a line break: 'dog\\nc.png,cat'"):
        read(photos, ROWS.replace("dog\nc.png,cat", '"dog\nc.png,cat"'))


def test_text_that_is_cut_off_or_of_another_encoding_is_refused(photos: Path) -> None:
    with pytest.raises(DataError, match=r"labels.csv is not UTF-16 text, or it is cut off: byte \d+, in line \d"):
        read(photos, ROWS.strip().encode("utf-16")[:-1])
    with pytest.raises(DataError, match=r"is not UTF-8 or Windows-1252 text: byte 22, in line 2") as caught:
        read(photos, ROWS.replace("cat", "k\u010dt").encode("cp1250").replace(b"\xe8", b"\x81"))
    assert "UTF-8" in caught.value.hint


@pytest.mark.parametrize("label", ["[1, 2]", '{"a": 1}'])
def test_labels_that_are_lists_or_objects_are_refused(photos: Path, label: str) -> None:
    table = photos / "metadata.jsonl"
    rows = [f'{{"file_name": "{name}", "label": {at % 2}, "box": [1, 2]}}' for at, name in enumerate(NAMES)]
    table.write_text("\n".join(rows))
    assert len(pairs(label_table.read(photos, [table], DataConfig(), ignore))) == 4
    table.write_text("\n".join([*rows[:2], rows[2].replace('"label": 0', f'"label": {label}'), rows[3]]))
    with pytest.raises(DataError, match=r"line 3 of .* has, in column 'label', a list or an object"):
        label_table.read(photos, [table], DataConfig(), ignore)
