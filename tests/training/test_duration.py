"""The estimate of the time of a training: it is told of long ones, and changes nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.builders.trainers import build_trainer
from vitcli.core.config import TrainConfig
from vitcli.core.events import Event, TrainingAhead
from vitcli.core.model_config import ModelConfig
from vitcli.core.optim_config import OptimConfig
from vitcli.core.runs import Run
from vitcli.engine.optim import Optimizers
from vitcli.engine.trainer import Trainer
from vitcli.engine.trial import StepTime, losses, time_update
from vitcli.training import duration
from vitcli.training.assembly import Training
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


def test_an_estimate_that_does_not_fit_into_memory_is_left_out(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds a copy of the model, which the training itself does not need."""
    step, calls = Optimizers.step, []

    def fails_at_first(self: Optimizers, *arguments: Any, **options: Any) -> Any:
        calls.append(self)
        if len(calls) == 1:
            raise MemoryError
        return step(self, *arguments, **options)

    monkeypatch.setattr(duration, "_LONG", 1)
    monkeypatch.setattr(Optimizers, "step", fails_at_first)
    told: list[Event] = []
    where = {"data": {"name": str(shapes)}, "run": {"name": "run", "output_dir": str(tmp_path)}}
    train(SHORT, where, emit=told.append)
    assert len(calls) > 1
    assert not any(isinstance(each, TrainingAhead) for each in told)
    assert Run(tmp_path / "run").status == "finished"


def test_an_estimate_leaves_the_scaler_of_the_training_as_it_is(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duration, "_LONG", 1)
    estimate, scales = duration.estimated_seconds, []

    def watched(training: Training) -> float | None:
        before = training.computing.training.scaler.state_dict()
        seconds = estimate(training)
        scales.append((before, training.computing.training.scaler.state_dict()))
        return seconds

    monkeypatch.setattr(duration, "estimated_seconds", watched)
    where = {"data": {"name": str(shapes)}, "run": {"output_dir": str(tmp_path), "amp": "on", "amp_dtype": "float16"}}
    train(SHORT, where)
    ((before, after),) = scales
    assert before["scale"] > 1
    assert before == after


def test_all_steps_that_are_timed_are_full(tmp_path: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last batch of two images takes less time than one of twelve."""
    sizes, made = list[int](), duration.trial_trainer

    def watched(model: Any, config: TrainConfig, *others: Any, **options: Any) -> Trainer:
        sizes.append(config.optim.batch_size)
        return made(model, config, *others, **options)

    monkeypatch.setattr(duration, "_LONG", 1)
    monkeypatch.setattr(duration, "trial_trainer", watched)
    where = {"data": {"name": str(shapes)}, "optim": {"batch_size": 12}, "run": {"output_dir": str(tmp_path)}}
    train(SHORT, where)
    assert sizes == [4], "14 images give three steps of 4"


def test_the_estimate_counts_images_updates_and_small_images() -> None:
    """A validation image takes a third of the time of a training image."""

    def estimate(step: StepTime, **changes: float) -> float:
        config = OptimConfig(epochs=4, batch_size=20, **changes)
        return duration.time_of_training(step, config, ModelConfig(), images=100, validation=30)

    assert estimate(StepTime(image=0.5, update=0.0)) == pytest.approx(4 * (100 + 10) * 0.5)
    assert estimate(StepTime(image=0.0, update=2.0)) == pytest.approx(4 * 5 * 2.0)
    shares = [(size / 224) ** 2 for size in (112, 144, 192, 224)]  # the patches have 16 pixels
    assert estimate(StepTime(image=0.5, update=0.0), progressive=0.5) == pytest.approx((100 * sum(shares) + 40) * 0.5)
    assert StepTime.of(3.0, 1.0, images=4) == (0.5, 1.0)


def test_an_update_is_timed_with_the_gradients_of_the_step_before() -> None:
    trainer = build_trainer()
    next(losses(trainer))
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    assert 0 < time_update(trainer) < 60
    changed = [not torch.equal(*pair) for pair in zip(before, trainer.model.parameters(), strict=True)]
    assert all(changed), "without gradients there would be nothing to time"
