"""The estimate of the time of a training: it is told of long ones, and changes nothing."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vitcli.core.events import Event, TrainingAhead
from vitcli.core.runs import Run
from vitcli.training import duration
from vitcli.workflows.train import train

SHORT = {
    "model": {"name": "vit-nano-patch4", "depth": 1, "drop_path": 0.1},
    "optim": {"epochs": 2, "batch_size": 6},
    "run": {"device": "cpu", "recipe": "small-images"},
}


def test_only_a_long_training_is_timed_and_its_weights_stay_the_same(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(name: str) -> tuple[list[TrainingAhead], dict[str, torch.Tensor]]:
        told: list[Event] = []
        where = {"data": {"name": str(shapes)}, "run": {"name": name, "output_dir": str(tmp_path)}}
        train(SHORT, where, emit=told.append)
        return [each for each in told if isinstance(each, TrainingAhead)], load_file(
            Run(tmp_path / name).best_checkpoint
        )

    none, weights = trained("short")
    assert none == []
    monkeypatch.setattr(duration, "_LONG", 1)  # any training is long
    (ahead,), same = trained("long")
    assert (ahead.epochs, ahead.images) == (2, 14)
    assert 0 < ahead.seconds < 3600
    assert all(torch.equal(weights[name], same[name]) for name in weights)


def test_a_validation_image_takes_a_third_of_the_time_of_a_training_image() -> None:
    assert duration.time_of_training(0.5, 100, 30, 4) == pytest.approx(4 * (100 + 10) * 0.5)
