"""Which images train, validate and test; held out once, and found again."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import StratifiedKFold

from vitcli.core.config import DataConfig
from vitcli.core.errors import DataError
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.data.inspection import find_duplicates
from vitcli.data.raw import stratified_folds
from vitcli.data.splits import Plan, plan_splits, restored_plan, stored_plan

ImageFolder = Callable[..., Path]


@pytest.fixture
def pets(image_folder: ImageFolder, tmp_path: Path) -> Path:
    return image_folder(tmp_path / "pets", {"cat": 10, "dog": 20, "eel": 5})


def opened(folder: Path, **settings: object) -> tuple[Dataset, DataConfig]:
    config = DataConfig(name=str(folder), **settings)
    return open_dataset(config, directory=folder.parent / "data"), config


def members(plan: Plan, dataset: Dataset) -> dict[str, set[str]]:
    return {name: set(map(str, dataset.names(part.found, part.members))) for name, part in plan.items()}


def test_a_folder_without_splits_is_cut_into_three(pets: Path) -> None:
    dataset, config = opened(pets)
    parts = members(plan_splits(dataset, config, seed=1), dataset)
    assert {name: len(names) for name, names in parts.items()} == {"train": 24, "test": 7, "val": 4}
    assert set.union(*parts.values()) == set(dataset.names("train"))
    assert {name.split("/")[0] for name in parts["test"]} == {name.split("/")[0] for name in parts["val"]}


def test_the_test_split_is_the_same_for_every_seed_and_the_validation_split_is_not(pets: Path) -> None:
    dataset, config = opened(pets)
    first, second = (members(plan_splits(dataset, config, seed=seed), dataset) for seed in (1, 2))
    assert first["test"] == second["test"]
    assert first["val"] != second["val"]


def test_without_a_test_fraction_nothing_is_held_out_for_testing(pets: Path) -> None:
    dataset, config = opened(pets, test_fraction=0.0)
    assert plan_splits(dataset, config, seed=1).keys() == {"train", "val"}


@pytest.mark.parametrize("folders", [("cat", "dog"), ("train/cat", "train/dog", "test/cat", "test/dog")])
def test_test_images_may_validate_and_then_all_others_train(
    image_folder: ImageFolder, tmp_path: Path, folders: tuple[str, ...]
) -> None:
    dataset, config = opened(image_folder(tmp_path / "pets", dict.fromkeys(folders, 10)), val_split="test")
    plan = plan_splits(dataset, config, seed=1)
    parts = members(plan, dataset)
    assert parts["val"] == parts["test"]
    assert {name: len(names) for name, names in parts.items()} == (
        {"train": 16, "val": 4, "test": 4} if len(folders) == 2 else {"train": 20, "val": 20, "test": 20}
    )
    again = restored_plan(json.loads(json.dumps(stored_plan(plan, dataset))), dataset)
    assert members(again, dataset) == parts


def test_a_validation_split_or_no_test_split_is_said(image_folder: ImageFolder, tmp_path: Path) -> None:
    with_val = image_folder(tmp_path / "a", {"train/cat": 2, "train/dog": 2, "val/cat": 2, "val/dog": 2})
    for folder, settings, said in (
        (with_val, {}, "has a validation split"),
        (image_folder(tmp_path / "b", {"cat": 3, "dog": 3}), {"test_fraction": 0.0}, "no test images to validate on"),
    ):
        dataset, config = opened(folder, val_split="test", **settings)
        with pytest.raises(DataError, match=said):
            plan_splits(dataset, config, seed=1)


def test_splits_on_disk_are_kept(image_folder: ImageFolder, tmp_path: Path) -> None:
    counts = {f"{split}/{name}": 4 for split in ("train", "valid", "test") for name in "ab"}
    dataset, config = opened(image_folder(tmp_path / "pets", counts))
    plan = plan_splits(dataset, config, seed=1)
    assert {name: part.found for name, part in plan.items()} == {"train": "train", "val": "val", "test": "test"}
    with pytest.raises(DataError, match="has a validation split") as caught:
        plan_splits(dataset, DataConfig(folds=2, fold=1), seed=1)
    assert "leave out --folds" in caught.value.hint


def test_a_class_of_one_image_is_trained_on(image_folder: ImageFolder, tmp_path: Path) -> None:
    dataset, config = opened(image_folder(tmp_path / "pets", {"cat": 1, "dog": 5}))
    parts = members(plan_splits(dataset, config, seed=1), dataset)
    assert "cat/000.png" in parts["train"]
    assert all(name.startswith("dog") for split in ("val", "test") for name in parts[split])
    folded = members(plan_splits(dataset, DataConfig(folds=3, fold=1), seed=1), dataset)
    assert "cat/000.png" in folded["train"]


@pytest.mark.parametrize("settings", [{}, {"folds": 4, "fold": 2}])
def test_copies_are_never_torn_apart(pets: Path, settings: dict[str, int]) -> None:
    """Not even those with different labels; and they do not move those that are there once."""
    copies = {"cat/a.png": "cat/000.png", "cat/b.png": "cat/001.png", "eel/c.png": "dog/003.png"}
    for copy, original in copies.items():
        shutil.copy(pets / original, pets / copy)
    dataset, _ = opened(pets)
    config = DataConfig(name=str(pets), **settings)
    for seed in range(5):
        parts = members(plan_splits(dataset, config, seed=seed), dataset)
        split_of = {name: split for split, names in parts.items() for name in names}
        assert {split_of[copy] == split_of[original] for copy, original in copies.items()} == {True}


def test_copies_in_other_formats_are_never_torn_apart(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    endings = {"cat/0": "jpg", "cat/1": "bmp", "dog/2": "webp", "dog/3": "jpeg", "cat/4": "tif"}
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for at in range(12):
            photo = Image.fromarray(random.integers(256, size=(6, 8, 3), dtype=np.uint8)).resize((64, 48))
            photo.save(tmp_path / "pets" / name / f"{at}.png")
            if ending := endings.get(f"{name}/{at}"):
                photo.save(tmp_path / "pets" / name / f"{at}.{ending}", quality=75)
    (tmp_path / "pets" / "cat" / "broken.jpg").write_bytes(b"no image")
    dataset, _ = opened(tmp_path / "pets", on_bad_image="skip")
    groups = [sorted(dataset.names("train", np.array([at for _, at in group]))) for group in find_duplicates(dataset)]
    assert sorted(groups) == sorted(sorted([f"{name}.png", f"{name}.{ending}"]) for name, ending in endings.items())
    for seed in range(5):
        parts = members(plan_splits(dataset, DataConfig(), seed=seed), dataset)
        split_of = {name: split for split, names in parts.items() for name in names}
        assert all(split_of[f"{name}.png"] == split_of[f"{name}.{ending}"] for name, ending in endings.items())


def test_links_to_one_file_are_copies_that_are_not_read(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        (pets / "cat" / f"link{number}.png").symlink_to(pets / "dog" / "000.png")
    dataset, _ = opened(pets)
    read: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    (group,) = find_duplicates(dataset)
    assert len(group) == 51
    assert not any(path.is_symlink() for path in read)


@pytest.mark.parametrize("kind", ["steel", "pages", "deep"])
def test_different_images_that_look_alike_are_no_copies(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(0)
    for name in ("good", "bad"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for at in range(12):
            pixels = 120 + random.normal(0, 6, (64, 48)) + np.linspace(0, 20, 48)
            if kind == "pages":
                pixels = (
                    245 - 200 * np.repeat(random.random((16, 48)) > 0.6, 4, axis=0) * (np.arange(64) % 4 < 2)[:, None]
                )
            image = Image.fromarray((16 * pixels).astype(np.uint16) if kind == "deep" else pixels.astype(np.uint8))
            image.save(
                tmp_path / "set" / name / f"{at}.{('png', 'tif')[at % 2] if kind == 'deep' else ('bmp', 'jpg')[at % 2]}"
            )
    dataset, _ = opened(tmp_path / "set")
    assert find_duplicates(dataset) == []


def test_small_drawings_that_look_alike_are_no_copies(tmp_path: Path) -> None:
    """But those that are the same are."""
    digits = load_digits()
    for at, (image, label) in enumerate(zip(digits.images[:400], digits.target[:400], strict=True)):
        folder = tmp_path / "digits" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        drawing = Image.fromarray((image * 15.9).astype(np.uint8)).resize((28, 28))
        drawing.save(folder / f"{at}.{('png', 'jpg')[at % 2]}", quality=90)
        if at < 4:
            drawing.save(folder / f"{at}.{('jpg', 'png')[at % 2]}", quality=50)
    dataset, _ = opened(tmp_path / "digits")
    groups = [dataset.names("train", np.array([at for _, at in group])) for group in find_duplicates(dataset)]
    assert sorted(sorted(map(str, group)) for group in groups) == [
        [f"{at}/{at}.jpg", f"{at}/{at}.png"] for at in range(4)
    ]


def test_where_there_are_only_copies_they_are_held_out_all_the_same(pets: Path) -> None:
    """As in a first try with pictures that a program drew."""
    for folder in pets.iterdir():
        for file in sorted(folder.iterdir())[1:]:
            shutil.copy(folder / "000.png", file)
    dataset, config = opened(pets)
    parts = members(plan_splits(dataset, config, seed=1), dataset)
    assert {name: len(names) for name, names in parts.items()} == {"train": 24, "val": 4, "test": 7}


@pytest.mark.parametrize("settings", [{}, {"folds": 2, "fold": 1}])
def test_where_testing_leaves_too_few_images_that_is_said(
    image_folder: ImageFolder, tmp_path: Path, settings: dict[str, int]
) -> None:
    folder = image_folder(tmp_path / "two", {"cat": 2, "dog": 2})
    dataset, config = opened(folder, **settings)
    with pytest.raises(DataError, match="after some images were held out for testing, no class has") as caught:
        plan_splits(dataset, config, seed=1)
    assert caught.value.hint == "add images, or --test-fraction 0"
    plan_splits(dataset, replace(config, test_fraction=0.0), seed=1)
    one, config = opened(image_folder(tmp_path / "one", {"cat": 1, "dog": 1}), test_fraction=0.0, **settings)
    with pytest.raises(DataError, match=r"^no class has") as caught:
        plan_splits(one, config, seed=1)
    assert caught.value.hint == "add images"


def test_splits_come_in_the_order_in_which_they_are_used(pets: Path) -> None:
    dataset, config = opened(pets)
    assert list(plan_splits(dataset, config, seed=1)) == ["train", "val", "test"]


def test_every_image_validates_in_one_fold(pets: Path) -> None:
    dataset, _ = opened(pets)
    plans = [plan_splits(dataset, DataConfig(folds=4, fold=fold), seed=3) for fold in (1, 2, 3, 4)]
    parts = [members(plan, dataset) for plan in plans]
    assert sum(len(each["val"]) for each in parts) == len(set.union(*(each["val"] for each in parts))) == 28
    assert all(each["test"] == parts[0]["test"] for each in parts)
    assert all(not each["val"] & each["train"] for each in parts)


@given(
    sizes=st.lists(st.integers(5, 40), min_size=2, max_size=6), folds=st.integers(2, 5), seed=st.integers(0, 2**32 - 1)
)
def test_folds_are_as_even_as_those_of_scikit_learn(sizes: list[int], folds: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    names = tuple(map(str, range(len(sizes))))
    ours = stratified_folds(labels, folds=folds, seed=seed, classes=names)
    splitter = StratifiedKFold(folds, shuffle=True, random_state=0)
    theirs = [np.bincount(labels[held], minlength=len(sizes)) for _, held in splitter.split(labels, labels)]
    counts = [np.bincount(labels[ours == fold], minlength=len(sizes)) for fold in range(folds)]
    assert np.ptp(counts, axis=0).max() <= max(np.ptp(theirs, axis=0).max(), 1)
    assert np.ptp(np.sum(counts, axis=1)) <= 1


def test_too_many_folds_are_refused() -> None:
    with pytest.raises(DataError, match="no class has 4 different images for 4 folds") as caught:
        stratified_folds(np.array([0, 0, 0, 1, 1]), folds=4, seed=0, classes=("a", "b"))
    assert "--folds 3" in caught.value.hint
    assert stratified_folds(np.array([0, 0, 0, 1, 1]), folds=3, seed=0, classes=("a", "b"))[3:].tolist() == [-1, -1]


def test_a_stored_plan_is_found_again_and_new_images_train(pets: Path, image_folder: ImageFolder) -> None:
    dataset, config = opened(pets)
    plan = plan_splits(dataset, config, seed=1)
    stored = json.loads(json.dumps(stored_plan(plan, dataset)))
    assert members(restored_plan(stored, dataset), dataset) == members(plan, dataset)
    before = members(plan, dataset)
    image_folder(pets, {"ant": 3})
    gone = min(before["val"])
    (pets / gone).unlink()
    changed, _ = opened(pets)
    after = members(restored_plan(stored, changed), changed)
    assert after["test"] == before["test"]
    assert after["val"] == before["val"] - {gone}
    assert {name for name in after["train"] if name.startswith("ant")} <= after["train"] - before["train"]


def test_sets_without_files_are_stored_by_index(tmp_path: Path) -> None:
    config = DataConfig(name="digits")
    dataset = open_dataset(config, directory=tmp_path)
    plan = plan_splits(dataset, config, seed=5)
    stored = json.loads(json.dumps(stored_plan(plan, dataset)))
    restored = restored_plan(stored, dataset)
    assert all(
        np.array_equal(restored[name].members, part.members) for name, part in plan.items() if part.members is not None
    )
    assert restored["test"].members is None
