"""Images that grow, as a user asks for them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.builders.runs import Listener, results, stopped_run, whole_results
from vitcli.core.runs import Run
from vitcli.engine.checkpoint import load_checkpoint
from vitcli.workflows.resume import resume
from vitcli.workflows.train import train

RunCli = Callable[..., Any]
GROWING = {"optim": {"progressive": 0.5}}


def test_a_model_of_growing_images_keeps_its_size_and_goes_on_to_the_bit(shapes: Path) -> None:
    plain, expected = whole_results(shapes), whole_results(shapes, GROWING)
    assert plain["run/metrics.json"] != expected["run/metrics.json"]
    stopped_run(shapes, GROWING)
    resume("run")
    found = dict(results(Path("experiments")))
    for name in ("last", "best"):
        assert found[f"run/checkpoints/{name}.safetensors"][0] == expected[f"run/checkpoints/{name}.safetensors"][0]
    assert found["run/metrics.json"] == expected["run/metrics.json"]
    assert load_checkpoint(Run(Path("experiments/run")).best_checkpoint).model.image_size == (8, 8)


def test_it_is_a_setting_of_the_run(run_cli: RunCli, shapes: Path, tiny: tuple[str, ...]) -> None:
    assert run_cli("train", shapes, *tiny, "--progressive", "0.5", "--name", "run").code == 0
    assert Run(Path("experiments/run")).config["optim"]["progressive"] == 0.5
    outcome = run_cli("train", "--resume", "run", "--progressive", "0.7", "--epochs", "2")
    assert outcome.code == 1
    assert "--progressive 0.7 (was 0.5)" in outcome.err


def test_with_a_frozen_backbone_images_go_through_it_in_every_epoch(
    run_cli: RunCli, shapes: Path, trained_run: Path
) -> None:
    listener = Listener()
    head = {"optim": {"train_only": "head", "epochs": 2}, "run": {"init_from": str(trained_run), "name": "head"}}
    train({"data": {"name": str(shapes)}}, head, GROWING, emit=listener)
    assert listener.epochs == [1, 2]
    before = load_checkpoint(Run(trained_run).best_checkpoint).weights
    after = load_checkpoint(Run(Path("experiments/head")).best_checkpoint).weights
    assert {name for name in after if not torch.equal(before[name], after[name])} <= {"head.1.weight", "head.1.bias"}
    words = ("--init-from", trained_run, "--freeze-backbone", "--feature-views", "2", "--progressive", "0.5")
    outcome = run_cli("train", shapes, *words)
    assert outcome.code == 2
    assert "the images grow" in outcome.err
