"""Averages of weights as a user asks for them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.text import Text

from vitcli.cli.words import epoch_line
from vitcli.core.events import EpochRecord
from vitcli.core.runs import Run
from vitcli.engine.checkpoint import load_checkpoint
from vitcli.training.result import result_of

RECORD = EpochRecord(
    epoch=100,
    learning_rate=0.01,
    train_loss=0.1234,
    train_accuracy=1.0,
    val_loss=0.1234,
    val_accuracy=1.0,
    seconds=1.0,
    images_per_second=12345.0,
    data_share=0.1,
    is_best=True,
)


@pytest.mark.parametrize(
    ("kept", "other", "said"),
    [
        ("average", "plain", "unaveraged weights 50.00 %"),
        ("plain", "average", "averaged weights 50.00 %"),
        ("", "", "12,345 images/s"),
    ],
)
def test_the_line_of_an_epoch_names_the_other_weights_and_has_at_most_80_characters(
    kept: str, other: str, said: str
) -> None:
    figures = {f"{kept}_val_loss": 0.1234, f"{kept}_val_accuracy": 1.0} if kept else {}
    figures |= {f"{other}_val_loss": 0.7, f"{other}_val_accuracy": 0.5} if other else {}
    record = replace(RECORD, **figures)
    assert said in epoch_line(record, 100)
    for columns in (54, 60, 80):
        line = Text.from_markup(epoch_line(record, 100, mark="best", columns=columns)).plain
        assert len(line) <= columns
        assert line.endswith("100.00 %  best" if columns < 80 else "  best")


def test_the_mean_of_the_last_epochs_is_trained_judged_and_used(
    run_cli: Callable[..., Any], shapes: Path, tiny: tuple[str, ...], digit: Path
) -> None:
    words = ("--epochs", "6", "--swa-epochs", "4", "--name", "mean", "--device", "cpu", "--json")
    outcome = run_cli("train", shapes, *tiny, *words)
    assert outcome.code == 0, outcome.err
    records = Run(Path("experiments/mean")).metrics["epochs"]
    assert [record["average_val_loss"] is None for record in records] == [True, True, False, False, False, False]
    assert len({record["learning_rate"] for record in records[2:]}) == 1
    best = json.loads(outcome.out)["best"]
    assert load_checkpoint(Run(Path("experiments/mean")).best_checkpoint).provenance["val_loss"] == best["val_loss"]
    assert run_cli("predict", digit, "--model", "mean").code == 0


def test_two_averages_at_once_are_refused(run_cli: Callable[..., Any], shapes: Path, tiny: tuple[str, ...]) -> None:
    outcome = run_cli("train", shapes, *tiny, "--epochs", "4", "--swa-epochs", "2", "--ema")
    assert outcome.code == 2
    assert "--no-ema" in outcome.err


def test_metrics_of_earlier_versions_can_be_read(trained_run: Path, tmp_path: Path) -> None:
    run = Run(Path(shutil.copytree(trained_run, tmp_path / "old")))
    metrics = run.metrics
    for record in (metrics["best"], *metrics["epochs"]):
        for name in [name for name in record if name.startswith(("plain_", "average_"))]:
            del record[name]
    run.save_metrics(metrics["epochs"])
    assert "plain_val_loss" not in run.metrics["best"]
    assert result_of(run).best.plain_val_loss is None
