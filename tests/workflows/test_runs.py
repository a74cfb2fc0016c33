"""``vit runs`` and its subcommands, on copies of one trained run whose files are changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Outcome
from vitcli.core.files import write_json
from vitcli.core.stored import read_json

RunCli = Callable[..., Outcome]
TEST = {"top1": 0.9, "loss": 0.4, "images": 359, "epoch": 2, "held_out": True, "intervals": {"top1": [0.85, 0.95]}}


def changed(file: Path, **facts: Any) -> None:
    """Change entries of a JSON file; a name such as ``optim__lr`` is an entry of a table."""
    content = read_json(file)
    for name, value in facts.items():
        *tables, key = name.split("__")
        inner = content
        for table in tables:
            inner = inner[table]
        inner[key] = value
    write_json(file, content)


def copied(trained_run: Path, name: str, *, val: float = 0.5, test: float | None = None, **config: Any) -> Path:
    """A copy of a run with other scores and settings."""
    path = shutil.copytree(trained_run, Path("experiments") / name)
    changed(path / "metrics.json", best__val_accuracy=val)
    if config:
        changed(path / "config.json", **config)
    shutil.rmtree(path / "evaluations", ignore_errors=True)
    if test is not None:
        write_json(path / "evaluations" / "test.json", {**TEST, "top1": test})
    return path


def as_json(outcome: Outcome) -> Any:
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


# --- show ---


def test_a_run_is_shown_with_what_differs_from_its_recipe(run_cli: RunCli, trained_run: Path) -> None:
    path = copied(trained_run, "mine", val=0.625, test=0.9, optim__lr=0.125, teacher__name="old")
    report = as_json(run_cli("runs", "show", "mine", "--json"))
    settings = {each["setting"]: (each["value"], each["usual"]) for each in report["settings"]}
    assert settings["optim.lr"] == (0.125, 0.02)
    assert settings["optim.epochs"] == (2, 60)
    assert not {"run.name", "run.device", "data.name", "optim.batch_size"} & settings.keys()
    assert (report["row"]["status"], report["row"]["val_accuracy"]) == ("finished", 0.625)
    assert (report["classes"], report["images"]["test"], report["planned_epochs"]) == (10, 359, 2)
    assert (report["teacher"], report["best"]["val_accuracy"]) == ("old", 0.625)
    assert report["files"]["metrics.csv"] == (path / "metrics.csv").stat().st_size
    (evaluation,) = report["evaluations"]
    assert (evaluation["name"], evaluation["top1"], evaluation["top1_interval"]) == ("test", 0.9, [0.85, 0.95])
    shown = run_cli("runs", "show", path)
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["optim.lr", "0.125", "0.02"] in lines
    assert ["repeat", "vit", "train", "--from-run", "mine"] in lines
    assert ["test", "359", "90.00", "%", "[85.00", "%", "-", "95.00", "%]", "-", "-", "0.4000"] in lines


def test_an_evaluation_of_another_epoch_is_said_to_be_outdated(run_cli: RunCli, trained_run: Path) -> None:
    path = copied(trained_run, "mine", test=0.9)
    changed(path / "evaluations" / "test.json", epoch=1, held_out=False)
    said = run_cli("runs", "show", "mine").err
    assert "test was evaluated before the run was trained on: `vit eval --model mine`" in said
    assert "test: not held out" in said


def test_a_run_with_broken_files_is_shown_as_far_as_it_is_readable(run_cli: RunCli, trained_run: Path) -> None:
    path = copied(trained_run, "mine")
    (path / "config.json").write_text("{")
    (path / "evaluations").mkdir()
    (path / "evaluations" / "test.json").write_text("[]")
    outcome = run_cli("runs", "show", "mine")
    assert outcome.code == 0, outcome.err
    assert "digits: 10 classes" in outcome.out
    assert f"{path / 'config.json'} is broken" in outcome.err
    assert f"{path / 'evaluations' / 'test.json'} cannot be read" in outcome.err


def test_a_cross_validation_is_shown_with_its_folds(run_cli: RunCli, trained_run: Path) -> None:
    for fold, accuracy in ((1, 0.5), (2, 0.75)):
        copied(trained_run, f"cv/fold-{fold}", val=accuracy, data__folds=2, data__fold=fold)
    report = as_json(run_cli("runs", "show", "cv", "--json"))
    assert [row["name"] for row in report["runs"]] == ["cv/fold-1", "cv/fold-2"]
    assert (report["row"]["val_accuracy"], report["row"]["status"], report["best"]) == (0.625, "finished", None)
    assert "data.fold" not in {each["setting"] for each in report["settings"]}


def test_options_before_a_subcommand_count(run_cli: RunCli, trained_run: Path) -> None:
    words = ("runs", "--output-dir", trained_run.parent)
    assert as_json(run_cli(*words, "--json", "show", "shared"))["row"]["name"] == "shared"
    assert as_json(run_cli("runs", "--json", "show", "shared", "--output-dir", trained_run.parent))
    assert run_cli("runs", "-o", trained_run.parent, "show", "shared").code == 0


@pytest.mark.parametrize("words", [("show", "shard"), ("show", "")])
def test_a_run_that_does_not_exist_is_named(run_cli: RunCli, trained_run: Path, words: tuple[str, ...]) -> None:
    outcome = run_cli("runs", *words, "--output-dir", trained_run.parent)
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: no run {words[1]!r} in {trained_run.parent}")
    assert "shared" in outcome.err or not words[1]
