"""Answers of a model whose weights are not finite: every command refuses them, and writes nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import Outcome
from vitcli.core.runs import Run
from vitcli.engine.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def diverged(trained_run: Path, tmp_path: Path) -> Path:
    checkpoint = load_checkpoint(Run(trained_run).best_checkpoint)
    weights = {name: tensor.clone() for name, tensor in checkpoint.weights.items()}
    weights["head.1.bias"][0] = float("nan")
    save_checkpoint(tmp_path / "diverged.safetensors", replace(checkpoint, weights=weights))
    return tmp_path / "diverged.safetensors"


@pytest.mark.parametrize("words", [("eval",), ("predict", "IMAGE"), ("attention-map", "IMAGE")])
def test_an_answer_that_is_not_a_number_is_an_error(
    run_cli: Callable[..., Outcome], diverged: Path, digit: Path, words: tuple[str, ...]
) -> None:
    outcome = run_cli(*(digit if word == "IMAGE" else word for word in words), "--model", diverged)
    assert outcome.code == 1
    assert "NaN or infinity" in outcome.err
    assert outcome.out == ""
    assert not list(diverged.parent.rglob("*.png"))
