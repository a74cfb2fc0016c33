"""What options about data bring, and what is said of those that bring nothing or cannot be."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import Outcome

RunCli = Callable[..., Outcome]
ImageFolder = Callable[..., Path]


@pytest.fixture
def train(run_cli: RunCli, tiny: tuple[str, ...]) -> Callable[..., Outcome]:
    return lambda *words: run_cli("train", *words, *tiny)


def test_classes_and_images_of_every_split_are_told_before_and_after(
    train: Callable[..., Outcome], shapes: Path
) -> None:
    outcome = train(shapes)
    assert "shapes: 14 train, 2 val, 4 test; 2 classes: left, right" in outcome.err
    assert "shapes: 2 classes; images: 14 to train, 2 to validate, 4 to test" in " ".join(outcome.out.split())
    result = json.loads(train(shapes, "--test-fraction", "0", "--json").out)
    assert (result["classes"], result["train_images"], result["val_images"], result["test_images"]) == (2, 18, 2, 0)
    report = json.loads(train(shapes, "--dry-run", "--json").out)
    assert list(report["images"].items()) == [("train", 14), ("val", 2), ("test", 4)]


def test_a_folder_with_the_name_of_a_data_set_is_not_passed_over_without_a_word(
    train: Callable[..., Outcome], run_cli: RunCli, image_folder: ImageFolder
) -> None:
    image_folder(Path("digits"), {"cat": 10, "dog": 10})
    said = "digits is a data set of `vit datasets`; ./digits names the folder"
    for outcome in (train("digits", "--name", "first"), run_cli("eval", "digits")):
        assert outcome.code == 0, outcome.err
        assert said in outcome.err
    for outcome in (run_cli("eval"), train("--from-run", "first"), train("./digits")):
        assert outcome.code == 0, outcome.err
        assert said not in outcome.err, "nobody typed the name"
    assert "2 classes: cat, dog" in outcome.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("digits", "--labels", "a.csv"), "digits has no table of labels, so this changes nothing: --labels"),
        (("shapes", "--label-map", "a.json", "--label-column", "b"), "changes nothing: --label-column, --label-map"),
        (
            ("digits", "--test-fraction", "0.3"),
            "digits has splits of its own, so this changes nothing: --test-fraction",
        ),
        (("split", "--val-fraction", "0.3"), "split has a validation split, so this changes nothing: --val-fraction"),
        (("shapes", "--val-fraction", "0.3", "--folds", "2"), "each fold validates in turn, so this changes nothing"),
        (("shapes", "--val-fraction", "0.3", "--test-fraction", "0.3"), ""),
    ],
)
def test_options_that_change_nothing_are_named_once(
    train: Callable[..., Outcome],
    image_folder: ImageFolder,
    shapes: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    said: str,
) -> None:
    (tmp_path / "a.csv").write_text("image,label\n")
    image_folder(tmp_path / "split", {f"{split}/{name}": 3 for split in ("train", "val") for name in "ab"})
    name = str(shapes) if words[0] == "shapes" else words[0] if words[0] == "digits" else str(tmp_path / "split")
    outcome = train(name, *words[1:])
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("changes nothing") == (1 if said else 0)
    assert said in outcome.err


def test_what_was_said_of_one_fold_is_not_said_of_the_others(
    train: Callable[..., Outcome], image_folder: ImageFolder, tmp_path: Path
) -> None:
    image_folder(tmp_path / "pets", {"cat": 6, "dog": 30, "eel": 3})
    outcome = train("pets", "--folds", "3", "--test-fraction", "0")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("always answering 'dog'") == 1
    assert outcome.err.count("fold 3 of 3") == 1


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--val-fraction", "0"), "--val-fraction 0.1 is usual"),
        (("--epochs", "0"), "for example --epochs 20; leave it out to take the usual one"),
        (("--workers", "-1"), "for example --workers 8"),
        (("--lr", "-1"), "for example --lr 0.01; leave it out to take the usual one"),
        (("--overwrite",), "--name RUN --overwrite"),
        (("--config", "absent.toml"), "--recipe a name of `vit recipes`"),
        (("--data-dir", "/proc/nope"), "--data-dir names another place"),
    ],
)
def test_a_hint_says_what_is_possible(run_cli: RunCli, words: tuple[str, ...], hint: str) -> None:
    outcome = run_cli("train", "digits", *words)
    assert outcome.code in {1, 2}
    assert "COMMAND" not in outcome.err
    assert hint in outcome.err
    assert "----" not in outcome.err


def test_folds_of_a_set_with_a_validation_split_are_refused_with_a_way_out(
    train: Callable[..., Outcome], image_folder: ImageFolder, tmp_path: Path
) -> None:
    image_folder(tmp_path / "pets", {f"{split}/{name}": 3 for split in ("train", "val") for name in "ab"})
    outcome = train("pets", "--folds", "2")
    assert outcome.code == 1
    assert "leave out --folds" in outcome.err


def test_a_bad_image_in_a_preview_comes_with_a_way_out(
    run_cli: RunCli, image_folder: ImageFolder, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "pets", {"cat": 3, "dog": 3}, size=(70, 70))
    for file in folder.rglob("*.png"):
        file.write_bytes(file.read_bytes()[:-40])
    outcome = run_cli("preview", folder)
    assert outcome.code == 1
    assert "--on-bad-image skip" in outcome.err


def test_sizes_are_numbers_in_json(run_cli: RunCli) -> None:
    models = {row["name"]: row for row in json.loads(run_cli("models", "--json").out)}
    assert models["vit-nano-patch4"]["patch_size"] == [4, 4]
    sets = {row["name"]: row for row in json.loads(run_cli("datasets", "--json").out)}
    assert (sets["cassava"]["image_size"], sets["food101"]["image_size"]) == ([600, 800], None)
    assert "600x800" in run_cli("datasets").out


def test_a_format_that_is_called_otherwise_is_trained_on(
    train: Callable[..., Outcome], image_folder: ImageFolder, tmp_path: Path
) -> None:
    folder = image_folder(tmp_path / "pets", {"cat": 8, "dog": 8}, size=(70, 70), mode="RGB")
    for file in folder.rglob("*.png"):
        Image.open(file).save(file.with_suffix(".jfif"), format="JPEG")
        file.unlink()
    outcome = train("pets", "--image-size", "18", "--dry-run", "--json")
    assert outcome.code == 0, outcome.err
    assert (outcome.code, json.loads(outcome.out)["images"]["train"]) == (0, 10), outcome.err
