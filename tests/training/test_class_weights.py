"""Rare classes: weights in the loss, and balanced epochs, as a user asks for them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import Outcome
from vitcli.core.events import ignore
from vitcli.core.runs import Run
from vitcli.engine.checkpoint import load_checkpoint
from vitcli.training.images import class_weights

RunCli = Callable[..., Outcome]
ImageFolder = Callable[..., Path]
COUNTS = {"train/cat": 12, "train/dog": 4, "val/cat": 3, "val/dog": 3}
Train = Callable[..., Outcome]


@pytest.fixture
def train(run_cli: RunCli, image_folder: ImageFolder, tiny: tuple[str, ...], tmp_path: Path) -> Train:
    image_folder(tmp_path / "pets", COUNTS)
    still = ("--lr", "1e-12", "--set", "optim.adamw_lr=1e-12", "--no-ema", "--device", "cpu", "--json")
    return lambda *words: run_cli("train", tmp_path / "pets", *tiny, *still, *words)


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def loss(train: Train, *words: object) -> float:
    """The mean training loss of an epoch that changes nothing."""
    outcome = train(*words, "--set", "augment.flip=0", "--set", "augment.crop_padding=0")
    assert outcome.code == 0, outcome.err
    result: float = json.loads(outcome.out)["best"]["train_loss"]
    return result


def test_weights_shift_the_loss_towards_the_rare_class(train: Train, tmp_path: Path) -> None:
    """From (12 c + 4 d) / 16, of the losses c and d of the two classes, to (c + d) / 2 where they are balanced."""
    cat = loss(train, "--class-weights", written(tmp_path / "cat.json", {"dog": 1e-9, "cat": 1.0}))
    dog = loss(train, "--class-weights", written(tmp_path / "dog.json", {"cat": 1e-9, "dog": 1, "emu": 7}))
    assert abs(cat - dog) > 0.01
    assert loss(train, "--class-weights", "balanced") == pytest.approx((cat + dog) / 2, abs=1e-4)


def test_a_file_of_weights_may_move_and_may_not_change(
    train: Train, run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = {"cat": 1.0, "dog": 3.0}
    written(tmp_path / "old.json", weights)
    assert train("--class-weights", "old.json", "--name", "run").code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume = ("train", "--resume", tmp_path / "experiments" / "run", "--epochs")
    assert run_cli(*resume, "2").code == 0
    moved = written(tmp_path / "new.json", weights)
    (tmp_path / "old.json").unlink()
    outcome = run_cli(*resume, "3", "--class-weights", moved)
    assert outcome.code == 0, outcome.err
    written(moved, weights | {"dog": 1000.0})
    outcome = run_cli(*resume, "4")
    assert outcome.code == 1
    assert "the weights of classes are not those that run run began with" in outcome.err


def test_a_run_whose_loss_was_another_one_is_told_so_when_it_goes_on(
    train: Train, run_cli: RunCli, tmp_path: Path
) -> None:
    assert train("--class-weights", "balanced", "--label-smoothing", "0.1", "--name", "run").code == 0
    resume = ("train", "--resume", "run", "--epochs")
    assert "the training loss differs" not in run_cli(*resume, "2").err
    info = tmp_path / "experiments" / "run" / "run.json"
    content = json.loads(info.read_text())
    del content["class_weights"]  # as an earlier version left it
    written(info, content)
    outcome = run_cli(*resume, "3")
    assert outcome.code == 0, outcome.err
    assert "the training loss differs from that of earlier epochs" in outcome.err


@pytest.mark.parametrize(
    ("kind", "expected"), [("balanced", 200), ("effective", (1 - 0.999**2000) / (1 - 0.999**10)), ("", None)]
)
def test_a_word_chooses_the_formula(kind: str, expected: float | None) -> None:
    weights = class_weights(kind, ("many", "few"), [2000, 10], ignore)
    ratio = None if weights is None else (weights[1] / weights[0]).item()
    assert ratio == (expected and pytest.approx(expected, rel=1e-5))


@pytest.mark.parametrize(
    ("content", "named", "hint"),
    [
        pytest.param({"cat": 1.0}, "'dog'", "CLASS", id="a class is missing"),
        pytest.param({"cat": 1, "dog": -2}, "not a positive number", "CLASS", id="a negative weight"),
        pytest.param({"cat": 1, "dog": 0}, "not a positive number", "CLASS", id="a weight of zero"),
        pytest.param('{"cat": 1, "dog": NaN}', "not a positive number", "CLASS", id="no number"),
        pytest.param('{"cat": 1, "dog": 1e999}', "not a positive number", "CLASS", id="an infinite weight"),
        pytest.param('{"cat": 1, "dog": 1' + "0" * 400 + "}", "not a positive number", "CLASS", id="endless digits"),
        pytest.param('{"cat": 1, "dog": 1e300}', "not a positive number", "CLASS", id="more than float32 holds"),
        pytest.param('{"cat": 1, "dog": 1e-320}', "not a positive number", "CLASS", id="a weight that vanishes"),
        pytest.param({"cat": 1, "dog": "much"}, "'much'", "CLASS", id="a word for a weight"),
        pytest.param({"cat": 1, "dog": None}, "weighs 'dog' by None", "CLASS", id="nothing for a weight"),
        pytest.param([1, 2], "does not map class names to weights", "CLASS", id="a list"),
        pytest.param("7", "does not map class names to weights", "CLASS", id="a number"),
        pytest.param("cat: 1", "is not a JSON file", "CLASS", id="no JSON"),
        pytest.param("", "is not a JSON file", "CLASS", id="an empty file"),
    ],
)
def test_weights_that_cannot_be_are_named(train: Train, tmp_path: Path, content: object, named: str, hint: str) -> None:
    file = written(tmp_path / "weights.json", content)
    outcome = train("--class-weights", file)
    assert outcome.code == 1
    message, _, advice = outcome.err.partition("hint: ")
    assert str(file) in message
    assert named in message
    assert hint in advice
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "experiments").exists()


def test_weights_of_what_is_no_class_are_named(train: Train, tmp_path: Path) -> None:
    file = written(tmp_path / "weights.json", {"dog": 1, "cat": 1.5, "emu": 7})
    assert f"warning: {file} has weights for unknown classes: 'emu'" in train("--class-weights", file).err


@pytest.mark.parametrize("word", ["balance", "absent.json", "{tmp_path}"])
def test_a_word_that_is_no_weighting_comes_with_those_there_are(train: Train, tmp_path: Path, word: str) -> None:
    word = word.format(tmp_path=tmp_path)
    outcome = train("--class-weights", word)
    assert outcome.code == 1
    message, _, advice = outcome.err.partition("hint: ")
    assert word in message
    assert "JSON" in advice or "CLASS" in advice
    assert not (tmp_path / "experiments").exists()


def test_balanced_epochs_change_what_is_learned_and_not_how_long_it_takes(train: Train, tmp_path: Path) -> None:
    """Also where a frozen backbone sees each image but once."""
    assert train("--name", "source").code == 0
    for way in ((), ("--init-from", "source", "--freeze-backbone")):
        words = ("--batch-size", "5", "--lr", "0.01", *way, "--overwrite")
        results = {}
        for name, extra in (("plain", ()), ("even", ("--balanced-sampling",)), ("again", ("--balanced-sampling",))):
            outcome = train(*words, *extra, "--name", name)
            assert outcome.code == 0, outcome.err
            results[name] = json.loads(outcome.out)
        runs = {name: Run(tmp_path / "experiments" / name) for name in results}
        weights = {name: load_checkpoint(run.checkpoint("last")).weights for name, run in runs.items()}
        assert {result["train_images"] for result in results.values()} == {16}
        assert all(torch.equal(weights["even"][key], weights["again"][key]) for key in weights["even"])
        assert not all(torch.equal(weights["even"][key], weights["plain"][key]) for key in weights["even"])
