"""Several models whose probabilities are averaged: which they are, what they were trained on, and where results go."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import Outcome
from vitcli.core.errors import RunError
from vitcli.core.events import Event, Warned, ignore
from vitcli.core.runs import Run
from vitcli.judging.evaluated_runs import models_of
from vitcli.trained.model_names import names_meant_by
from vitcli.trained.own_images import BesideOwn, count_seen

RunCli = Callable[..., Outcome]
ImageFolder = Callable[..., Path]


@pytest.fixture
def folds(trained_run: Path, tmp_path: Path) -> Path:
    """A folder of runs, of which one is finished."""
    for name, status in (("fold-1", "finished"), ("fold-2", "interrupted"), ("fold-3", "running")):
        path = shutil.copytree(trained_run, tmp_path / "experiments" / "cv" / name)
        Run(path).note(status=status, fold=int(name[-1]))
    return tmp_path / "experiments"


@pytest.mark.parametrize("name", ["cv", "cv/fold-*", "*/fold-[123]"])
def test_runs_that_are_not_finished_are_left_out_and_named(folds: Path, name: str) -> None:
    events: list[Event] = []
    assert names_meant_by(name, folds, events.append) == [str(folds / "cv" / "fold-1")]
    (warning,) = [event.text for event in events if isinstance(event, Warned)]
    assert warning == "left out of the mean: cv/fold-2 (interrupted), cv/fold-3 (running)"


def test_a_pattern_of_unfinished_runs_is_refused(folds: Path) -> None:
    with pytest.raises(RunError, match=r"no run that matches 'cv/fold-\[23\]' is finished: cv/fold-2 \(interrupted\)"):
        names_meant_by("cv/fold-[23]", folds, ignore)


def test_a_run_that_a_pattern_finds_in_two_ways_counts_once(folds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folds)
    assert len(names_meant_by("cv/fold-*", folds, ignore)) == 1


def test_files_outside_of_runs_are_averaged_and_nothing_is_stored(
    run_cli: RunCli, trained_run: Path, image_folder: ImageFolder, tmp_path: Path
) -> None:
    image_folder(tmp_path / "other", {"3": 2, "7": 2})
    for name in ("m1", "m2"):
        shutil.copy(trained_run / "checkpoints" / "best.safetensors", tmp_path / f"{name}.safetensors")
    outcome = run_cli("eval", "other", "--model", "m[12].safetensors", "--json")
    assert outcome.code == 0, outcome.err
    assert (json.loads(outcome.out)["models"], json.loads(outcome.out)["files"]) == (2, {})


def test_images_that_any_of_them_was_trained_on_are_counted(
    run_cli: RunCli, tiny: tuple[str, ...], image_folder: ImageFolder, tmp_path: Path
) -> None:
    image_folder(tmp_path / "first", {"left": 10, "right": 10})
    image_folder(tmp_path / "second", {"left": 8, "right": 8}, size=(9, 9))
    for name in ("first", "second"):
        assert run_cli("train", name, *tiny, "--image-size", "8", "--name", name).code == 0
    held_out = Run(tmp_path / "experiments" / "first").split["held_out"]
    others = {*held_out["val"], *held_out["test"]}
    taught = next(path for path in Path("first/left").iterdir() if f"left/{path.name}" not in others)
    shutil.copytree("second", "copy")
    shutil.copy(taught, "copy/left/another.png")
    alone, both = (run_cli("eval", "copy", "--model", name) for name in ("second", "[fs]*"))
    assert "second was trained on 10 of 17 images: scores are too high" in alone.err
    assert "first, second were trained on 11 of 17 images: scores are too high" in both.err


def test_models_of_one_name_are_told_apart_and_one_that_is_not_known_does_not_hide_others() -> None:
    def beside(*trained_on: str) -> BesideOwn:
        images = [(name, "") for name in "abc"]
        return BesideOwn(own=None, plan={}, images=images, parts={"train": [(name, "") for name in trained_on]})  # type: ignore[arg-type]

    best: Any = SimpleNamespace(name="best", keeps_last=False)
    events: list[Event] = []
    assert count_seen([(best, beside("a", "b")), (best, beside())], 3, events.append) == {"train": 2}
    assert count_seen([(best, None), (best, beside("c"))], 3, events.append) is None
    said = [event.text.partition(":")[0] for event in events if isinstance(event, Warned)]
    assert said == ["best was trained on 2 of 3 images", "best was trained on 1 of 3 images"]


def test_two_data_sets_of_one_name_have_an_evaluation_each(
    run_cli: RunCli, tiny: tuple[str, ...], image_folder: ImageFolder, shapes: Path, tmp_path: Path
) -> None:
    assert run_cli("train", shapes, *tiny, "--name", "run").code == 0
    for where, count in (("x", 3), ("y", 4)):
        image_folder(tmp_path / where / "images", {"left": count, "right": count}, size=(9, 9))
        for _ in range(2):
            assert run_cli("eval", f"{where}/images", "--model", "run").code == 0
    stored = {path.name: json.loads(path.read_text()) for path in Path("experiments/run/evaluations").glob("*.json")}
    assert {name: facts["images"] for name, facts in stored.items()} == {"images-all.json": 6, "images-all-2.json": 8}


def test_a_comma_in_a_name_makes_no_two_models(
    run_cli: RunCli, tiny: tuple[str, ...], shapes: Path, tmp_path: Path
) -> None:
    assert run_cli("train", shapes, *tiny, "--name", "left, right").code == 0
    assert run_cli("eval").code == 0
    (stored,) = (tmp_path / "experiments" / "left, right" / "evaluations").glob("*.json")
    assert models_of(json.loads(stored.read_text())) == ["left, right"]
