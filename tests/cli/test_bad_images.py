"""Images that cannot be read, from training to evaluation: an error that names them, or left out, wherever they are."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import Outcome
from vitcli.core.runs import Run
from vitcli.data import loader
from vitcli.engine.checkpoint import load_checkpoint

RunCli = Callable[..., Outcome]
Words = tuple[str, ...]
PER_CLASS = {"train": 6, "val": 3, "test": 4}
BAD = ("train/cat/1.jpg", "train/dog/2.jpg", "val/cat/0.jpg", "test/dog/3.jpg")
MODES = ("disk", "ram", "off")
SMALL = ("--image-size", "16", "--set", "model.patch_size=8", "--seed", "0", "--device", "cpu")


def with_damaged_header(path: Path) -> None:
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(300))


def truncated(path: Path) -> None:
    """The header is whole."""
    path.write_bytes(path.read_bytes()[:-500])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def text(path: Path) -> None:
    path.write_text("<html>not found</html>")


KINDS = [with_damaged_header, truncated, empty, text]
Spoil = Callable[[Path], None]


def draw(root: Path, counts: dict[str, int]) -> Path:
    """So many photos in each folder, of any size."""
    random = np.random.default_rng(0)
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            height, width = (int(side) for side in random.integers(66, 90, 2))
            pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number}.jpg")
    return root


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of two classes in three splits; not to be changed."""
    counts = {f"{split}/{kind}": count for split, count in PER_CLASS.items() for kind in ("cat", "dog")}
    return draw(tmp_path_factory.mktemp("good") / "pets", counts)


@pytest.fixture
def pets(good: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return Path(shutil.copytree(good, tmp_path / "pets"))


@pytest.fixture
def train(run_cli: RunCli, pets: Path, tiny: Words, tmp_path: Path) -> Callable[..., Outcome]:
    """Train on them, with a data folder of this test's own."""
    return lambda *words: run_cli("train", pets, *tiny, *SMALL, "--data-dir", tmp_path / "data", "--json", *words)


def prepared(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "data").rglob("*") if path.is_file())


def said(outcome: Outcome) -> str:
    """What was said, in one line."""
    return " ".join(outcome.err.split())


# errors


@pytest.mark.parametrize(
    ("spoil", "mode", "where"),
    [(spoil, "disk", BAD[1]) for spoil in KINDS] + [(truncated, mode, where) for mode in MODES for where in BAD[1:3]],
)
def test_a_bad_image_is_named_before_anything_is_trained(
    train: Callable[..., Outcome], pets: Path, tmp_path: Path, spoil: Spoil, mode: str, where: str
) -> None:
    spoil(pets / where)
    outcome = train("--cache", mode)
    assert outcome.code == 1
    assert str(pets / where) in outcome.err
    assert "--on-bad-image skip" in said(outcome)
    assert "Traceback" not in outcome.err
    assert json.loads(outcome.out)["error"]["code"] == "data"
    is_streamed = mode == "off" and spoil is truncated and where.startswith("val")
    assert (tmp_path / "experiments").exists() is is_streamed  # that one is not decoded before an epoch has passed
    assert [name for name in prepared(tmp_path) if where.split("/", maxsplit=1)[0] in name] == []
    assert not [name for name in prepared(tmp_path) if ".tmp" in name]


@pytest.mark.parametrize(
    ("spoil", "mode"), [*((spoil, "disk") for spoil in KINDS), (truncated, "ram"), (truncated, "off")]
)
def test_when_no_image_is_left_it_is_an_error_even_if_they_are_to_be_skipped(
    train: Callable[..., Outcome], pets: Path, tmp_path: Path, spoil: Spoil, mode: str
) -> None:
    for path in pets.rglob("*.jpg"):
        spoil(path)
    outcome = train("--cache", mode, "--on-bad-image", "skip")
    assert outcome.code == 1
    assert "of 12 images cannot be read" in said(outcome) or "of 26 images cannot be read" in said(outcome)
    assert "--on-bad-image" not in outcome.err.partition("error:")[2]
    assert not (tmp_path / "experiments").exists()


@pytest.mark.parametrize("mode", MODES)
def test_a_split_without_a_readable_image_is_an_error(
    train: Callable[..., Outcome], pets: Path, tmp_path: Path, mode: str
) -> None:
    for path in (pets / "val").rglob("*.jpg"):
        truncated(path)
    outcome = train("--cache", mode, "--on-bad-image", "skip")
    assert outcome.code == 1
    assert "6 of 6 images cannot be read: cat/0.jpg" in said(outcome).replace("val/", "")
    assert not (tmp_path / "experiments").exists()


# left out


@pytest.mark.parametrize("mode", MODES)
def test_bad_images_are_left_out_and_named_each_time(
    train: Callable[..., Outcome], run_cli: RunCli, pets: Path, tmp_path: Path, mode: str
) -> None:
    for spoil, where in zip((truncated, text, truncated, truncated), BAD, strict=True):
        spoil(pets / where)
    stored = []
    for _ in range(2):
        outcome = train("--cache", mode, "--on-bad-image", "skip")
        assert outcome.code == 0, outcome.err
        result = json.loads(outcome.out)
        assert (result["train_images"], result["val_images"]) == (12 - 2, 6 - 1)
        assert "left out: 2 of 12 images cannot be read: train/cat/1.jpg, train/dog/2.jpg" in said(outcome)
        assert "left out: 1 of 6 images cannot be read: val/cat/0.jpg" in said(outcome)
        assert "pets: 10 train, 5 val, 8 test (not read yet); 2 classes" in said(outcome)
        stored.append(prepared(tmp_path))
    assert stored[0] == stored[1]
    assert len(stored[0]) == (4 if mode == "disk" else 2)
    judged: list[tuple[str, int, Words]] = [("train", 10, BAD[:2]), ("val", 5, BAD[2:3]), ("test", 7, BAD[3:])]
    for split, count, named in judged if mode == "disk" else judged[2:]:
        evaluated = run_cli("eval", "--split", split, "--data-dir", tmp_path / "data", "--json")
        assert evaluated.code == 0, evaluated.err
        assert json.loads(evaluated.out)["metrics"]["images"] == count
        assert f"images cannot be read: {', '.join(named)}" in said(evaluated)


def test_every_mode_gives_the_same_model_bit_by_bit(
    train: Callable[..., Outcome], pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos in files, mapped and fetched ahead; in memory; decoded again for every batch: with some left out."""
    for where in BAD:
        truncated(pets / where)
    words = ("--on-bad-image", "skip", "--epochs", "2", "--batch-size", "4")
    kept = []
    for mode in ("auto", "disk", "ram", "off"):
        with monkeypatch.context() as patch:
            if mode == "disk":
                patch.setattr(loader, "_AT_HAND", 0)
            assert train(*words, "--cache", mode, "--name", mode).code == 0
        kept.append(load_checkpoint(Run(tmp_path / "experiments" / mode).checkpoint("last")).weights)
    first, *others = kept
    assert all(first[name].equal(other[name]) for other in others for name in first)
    assert train(*words, "--seed", "1", "--name", "another").code == 0
    another = load_checkpoint(Run(tmp_path / "experiments" / "another").checkpoint("last")).weights
    assert not all(first[name].equal(another[name]) for name in first)


@pytest.mark.parametrize("mode", MODES)
def test_what_was_left_out_before_is_an_error_again_when_asked_for(
    train: Callable[..., Outcome], pets: Path, mode: str
) -> None:
    truncated(pets / BAD[0])
    assert train("--cache", "disk", "--on-bad-image", "skip").code == 0
    outcome = train("--cache", mode)
    assert outcome.code == 1
    assert "1 of 12 images cannot be read: train/cat/1.jpg" in said(outcome)
    assert "--on-bad-image skip" in said(outcome)


@pytest.mark.parametrize("mode", ["ram", "off"])
def test_facts_of_a_run_that_left_images_out_hide_them_from_nobody(
    train: Callable[..., Outcome], pets: Path, mode: str
) -> None:
    text(pets / BAD[0])
    assert train("--cache", mode, "--on-bad-image", "skip").code == 0
    outcome = train("--cache", mode)
    assert outcome.code == 1
    assert str(pets / BAD[0]) in outcome.err
    assert "--on-bad-image skip" in said(outcome)


def test_a_bad_image_that_becomes_good_takes_part_again(train: Callable[..., Outcome], pets: Path, good: Path) -> None:
    text(pets / BAD[0])
    assert json.loads(train("--on-bad-image", "skip").out)["train_images"] == 11
    shutil.copy(good / BAD[0], pets / BAD[0])
    outcome = train()
    assert json.loads(outcome.out)["train_images"] == 12
    assert "cannot be read" not in outcome.err


@pytest.mark.parametrize("mode", ["disk", "off"])
def test_bad_images_among_those_held_out_do_not_count(run_cli: RunCli, tiny: Words, tmp_path: Path, mode: str) -> None:
    """One folder, cut into three: the splits are those of the whole folder, whatever can be read."""
    draw(tmp_path / "flat", {"cat": 12, "dog": 12})
    words = ("train", tmp_path / "flat", *tiny, *SMALL, "--data-dir", tmp_path / "data", "--val-fraction", "0.2")
    assert run_cli(*words, "--name", "whole").code == 0
    held_out = Run(tmp_path / "experiments" / "whole").split["held_out"]
    for split in ("val", "test"):
        truncated(tmp_path / "flat" / held_out[split][0])
    outcome = run_cli(*words, "--name", "spoilt", "--on-bad-image", "skip", "--cache", mode, "--json")
    assert outcome.code == 0, outcome.err
    assert Run(tmp_path / "experiments" / "spoilt").split["held_out"] == held_out
    result = json.loads(outcome.out)
    assert result["val_images"] == len(held_out["val"]) - 1
    assert result["train_images"] == 24 - len(held_out["val"]) - len(held_out["test"])
    for split in ("val", "test"):
        evaluated = run_cli("eval", "--model", "spoilt", "--split", split, "--json")
        assert json.loads(evaluated.out)["metrics"]["images"] == len(held_out[split]) - 1
        assert f"1 of {len(held_out[split])} images cannot be read" in said(evaluated)
        assert held_out[split][0] in evaluated.err


@pytest.mark.parametrize("mode", ["disk", "off"])
def test_held_out_images_that_are_all_bad_are_an_error(run_cli: RunCli, tiny: Words, tmp_path: Path, mode: str) -> None:
    draw(tmp_path / "flat", {"cat": 12, "dog": 12})
    words = (
        "train",
        tmp_path / "flat",
        *tiny,
        *SMALL,
        "--data-dir",
        tmp_path / "data",
        "--set",
        "augment.crop_scale=1",
    )
    assert run_cli(*words, "--name", "whole").code == 0
    held_out = Run(tmp_path / "experiments" / "whole").split["held_out"]["val"]
    for name in held_out:
        truncated(tmp_path / "flat" / name)
    outcome = run_cli(*words, "--on-bad-image", "skip", "--cache", mode)
    assert outcome.code == 1
    assert f"{len(held_out)} of {len(held_out)} images cannot be read" in said(outcome)


def test_a_class_whose_training_images_are_all_bad_does_not_spoil_the_weights_of_the_others(
    train: Callable[..., Outcome], pets: Path
) -> None:
    for path in (pets / "train" / "dog").iterdir():
        truncated(path)
    outcome = train("--on-bad-image", "skip", "--class-weights", "balanced")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["train_images"] == 6


def test_eval_on_other_photos_leaves_out_what_it_cannot_read_and_writes_no_more_than_training(
    train: Callable[..., Outcome], run_cli: RunCli, pets: Path, good: Path, tmp_path: Path
) -> None:
    assert train("--on-bad-image", "skip", "--cache", "off").code == 0
    other = Path(shutil.copytree(good, tmp_path / "other"))
    truncated(other / BAD[3])
    evaluated = run_cli("eval", other, "--data-dir", tmp_path / "data", "--json")
    assert evaluated.code == 0, evaluated.err
    assert json.loads(evaluated.out)["metrics"]["images"] == 7
    assert prepared(tmp_path) == ["duplicates-3.json", "facts-4.json", "facts-4.json"]
    assert pets.is_dir()
