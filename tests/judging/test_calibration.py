"""Calibration: the temperature, what it changes, and sets and thresholds with their coverage."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from torch.nn import functional as F

from tests.conftest import Outcome
from vitcli.core.calibration import Calibration, quantiles
from vitcli.core.errors import ModelError, RunError, UsageError
from vitcli.core.runs import Run
from vitcli.data.locks import alone_in
from vitcli.engine.checkpoint import load_checkpoint, save_checkpoint
from vitcli.judging.temperature import calibration_by, doubt_about, fit_temperature

RunCli = Callable[..., Outcome]


def answered(images: int, sharpness: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose probabilities are right at temperature ``sharpness``, and classes drawn from these."""
    random = np.random.default_rng(seed)
    honest = random.normal(size=(images, 6)) * 2
    shares = torch.from_numpy(honest).softmax(dim=1).numpy()
    truth = (shares.cumsum(axis=1) < random.random((images, 1))).sum(axis=1).clip(0, 5)
    return torch.from_numpy(honest * sharpness), torch.from_numpy(truth)


@pytest.mark.parametrize("sharpness", [0.25, 1.0, 4.0])
def test_the_temperature_is_the_one_that_was_hidden(sharpness: float) -> None:
    assert fit_temperature(*answered(20_000, sharpness)) == pytest.approx(sharpness, rel=0.03)


def test_it_is_the_minimum_that_scipy_finds() -> None:
    logits, truth = answered(500, 2.0)
    smoothing = 6 / 5 / 502

    def loss(temperature: float) -> float:
        return float(F.cross_entropy(logits / temperature, truth, label_smoothing=smoothing))

    found = optimize.minimize_scalar(loss, bounds=(0.02, 50), method="bounded", options={"xatol": 1e-6}).x
    assert fit_temperature(logits, truth) == pytest.approx(found, rel=1e-3)


def test_a_model_that_is_always_right_does_not_become_infinitely_sure() -> None:
    logits, truth = torch.eye(4)[[0, 1, 2, 3] * 30] * 2, torch.tensor([0, 1, 2, 3] * 30)
    sure = (logits / fit_temperature(logits, truth)).softmax(dim=1).amax().item()
    assert sure == pytest.approx(121 / 122, abs=1e-3)  # one mistake is still likely among the next 120


@given(st.integers(1, 5000), st.integers(0, 2**32 - 1))
def test_quantiles_are_kept_values_on_the_safe_side(images: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=images).tolist()
    kept, ordered = quantiles(values), sorted(values)
    assert len(kept.values) <= 2000
    for rank in {1, max(images // 2, 1), max(images - 1, 1), images}:
        assert kept.at_least(rank) >= ordered[rank - 1] >= kept.at_most(rank)
        if images <= 2000:
            assert kept.at_least(rank) == ordered[rank - 1] == kept.at_most(rank)
    assert kept.at_least(images + 1) == np.inf
    assert kept.at_most(0) == -np.inf


def within(hits: int, images: int, share: float, calibrated_on: int) -> bool:
    """Tell whether a coverage is likely: given the images of calibration, it follows a beta-binomial distribution."""
    rank = np.ceil((calibrated_on + 1) * share)
    low, high = stats.betabinom(images, rank, calibrated_on + 1 - rank).interval(0.9999)
    return bool(low <= hits <= high)


@pytest.mark.parametrize("share", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("seed", range(5))
def test_sets_and_thresholds_have_the_coverage_that_is_asked_for(share: float, seed: int) -> None:
    calibration = calibration_by(*answered(500, 3.0, seed))
    logits, truth = answered(4000, 3.0, seed + 100)
    probabilities = (logits / calibration.temperature).softmax(dim=1)
    in_set = probabilities >= calibration.least_probability(share)
    assert within(int(in_set[torch.arange(4000), truth].sum()), 4000, share, 500)
    is_answered = probabilities.amax(dim=1) > calibration.least_confidence(share)
    assert within(int(is_answered.sum()), 4000, share, 500)


def test_all_are_answered_at_coverage_1_and_what_cannot_be_promised_is_refused() -> None:
    calibration = calibration_by(*answered(50, 1.0))
    assert calibration.least_confidence(1.0) == -np.inf
    with pytest.raises(
        ModelError, match=r"--sets 0\.99 needs more validation images than the 50 of this model"
    ) as refusal:
        calibration.least_probability(0.99)
    assert refusal.value.hint == "--sets 0.98 is the most"
    calibration.least_probability(0.98)
    for share in (0, 1.5):
        with pytest.raises(UsageError, match="is not in"):
            calibration.least_confidence(share)


def test_a_broken_calibration_is_refused() -> None:
    good = quantiles([0.1, 0.2])
    Calibration(temperature=1.0, confidence=good, doubt=good).check()
    for temperature, values in ((0.0, (0.1, 0.2)), (1.0, (0.2, 0.1)), (1.0, ())):
        broken = Calibration(temperature=temperature, confidence=good, doubt=type(good)(images=2, values=values))
        with pytest.raises(ValueError, match=r"calibration|temperature"):
            broken.check()


@pytest.fixture
def run(trained_run: Path, tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shared run."""
    monkeypatch.setenv("VIT_DATA_DIR", str(data_dir))
    return Path(shutil.copytree(trained_run, tmp_path / "experiments" / "mine"))


def test_eval_calibrates_on_validation_images_and_everything_uses_the_temperature(
    run_cli: RunCli, run: Path, digit: Path
) -> None:
    path = Run(run).best_checkpoint
    raw, before = load_checkpoint(path), json.loads(run_cli("eval", "--json").out)
    outcome = run_cli("eval", "--calibrate", "--json")
    assert outcome.code == 0, outcome.err
    result, kept = json.loads(outcome.out), load_checkpoint(path)
    calibration, after = result["calibration"], result["evaluation"]
    assert kept.calibration is not None
    assert kept.calibration.temperature == pytest.approx(calibration["temperature"])
    assert all(torch.equal(kept.weights[name], raw.weights[name]) for name in raw.weights)  # they stay as trained
    assert calibration["images"] == 143
    assert calibration["loss_after"] < calibration["loss_before"]
    assert after["split"] == "test"
    assert after["metrics"]["top1"] == before["metrics"]["top1"]
    assert after["metrics"]["loss"] < before["metrics"]["loss"]
    predicted = run_cli("predict", digit, "--json")
    assert "probabilities are calibrated: temperature" in predicted.err
    again = json.loads(run_cli("eval", "--calibrate", "--json").out)["calibration"]
    assert again == pytest.approx(calibration)  # it begins with the weights as they were trained


@pytest.mark.usefixtures("run")
def test_images_that_fitted_the_temperature_are_judged_without_it(run_cli: RunCli) -> None:
    words = ("eval", "--split", "val", "--json")
    before = json.loads(run_cli(*words).out)["metrics"]
    assert run_cli("eval", "--calibrate").code == 0
    outcome = run_cli(*words)
    assert "the temperature was fitted on these images, so they are judged without it" in outcome.err
    assert json.loads(outcome.out)["metrics"]["loss"] == pytest.approx(before["loss"], rel=1e-5)


def test_eval_says_by_how_much_probabilities_are_too_high_or_too_low(run_cli: RunCli, run: Path) -> None:
    path = Run(run).best_checkpoint
    kept = load_checkpoint(path)
    weak = {name: tensor * (0.01 if name.startswith("head.") else 1) for name, tensor in kept.weights.items()}
    save_checkpoint(path, replace(kept, weights=weak))  # the same answers, all of them with about 10 %
    before = run_cli("eval")
    metrics = json.loads(run_cli("eval", "--json").out)["metrics"]
    confidence = sum(each["images"] * each["confidence"] for each in metrics["reliability"]) / metrics["images"]
    points = 100 * (confidence - metrics["top1"])
    assert f"{-points:.1f} points below the accuracy" in " ".join(before.out.split())
    assert "`vit eval --calibrate --model experiments/mine` brings them closer" in before.err
    assert "--calibrate" not in run_cli("eval", "--split", "val").err
    constant = {**kept.weights, **{name: torch.zeros_like(kept.weights[name]) for name in weak if "head." in name}}
    constant[next(name for name in constant if "head." in name and name.endswith("bias"))][0] = 9
    save_checkpoint(path, replace(kept, weights=constant))  # class 0, surely
    useless = run_cli("eval")
    assert "points above the accuracy" in " ".join(useless.out.split())
    assert "brings them closer" not in useless.err
    save_checkpoint(path, replace(kept, weights=weak))
    assert run_cli("eval", "--calibrate").code == 0
    after = run_cli("eval")
    assert "--calibrate" not in after.err


def test_a_resumed_run_says_that_it_was_calibrated(run_cli: RunCli, run: Path) -> None:
    epochs = str(len(Run(run).metrics["epochs"]) + 1)
    assert "calibrat" not in run_cli("train", "--resume", "mine", "--epochs", epochs).err
    assert run_cli("eval", "--calibrate").code == 0
    outcome = run_cli("train", "--resume", "mine", "--epochs", str(int(epochs) + 1))
    assert outcome.code == 0, outcome.err
    assert (
        "mine is calibrated; if training finds a better epoch, that one is not: `vit eval --calibrate --model exp"
        in outcome.err
    )


def test_what_cannot_be_calibrated_is_refused(run_cli: RunCli, run: Path) -> None:
    Run(run).note(status="running")
    with alone_in(run, otherwise=RunError("")):
        outcome = run_cli("eval", "--calibrate", "--model", run)
    assert outcome.code == 1
    assert "is still training" in outcome.err
    assert load_checkpoint(Run(run).best_checkpoint).calibration is None
    assert run_cli("eval", "--calibrate", "--model", run).code == 0, "its process is gone"


@pytest.mark.usefixtures("run")
def test_predict_answers_unknown_below_a_confidence_and_writes_its_best_guess(run_cli: RunCli, digit: Path) -> None:
    share = json.loads(run_cli("predict", digit, "--json").out)["rows"][0]["probabilities"][0]
    below, above = (run_cli("predict", digit, "--min-confidence", share + more) for more in (-0.01, 0.01))
    assert "unknown" not in below.out + below.err
    assert "unknown (" in above.out
    assert "1 predicted, 1 of them unknown" in above.err
    table = run_cli("predict", digit, "--min-confidence", share + 0.01, "--csv", "-").out.splitlines()
    assert table[0] == "path,class,probability,error,best_class"
    assert table[1].split(",")[1] == "unknown"
    assert table[1].split(",")[4].isdigit()
    table = run_cli("predict", digit, "--min-confidence", share - 0.01, "--csv", "-").out.splitlines()
    assert table[0] == "path,class,probability,error,best_class"
    assert table[1].split(",")[1] == table[1].split(",")[4], "the columns do not depend on the answers"
    assert json.loads(run_cli("predict", digit, "--min-confidence", "1", "--json").out)["rows"][0]["is_unknown"]


def test_predict_gives_sets_and_a_coverage_after_a_calibration(run_cli: RunCli, run: Path, digit: Path) -> None:
    for words in (("--sets", "0.9"), ("--coverage", "0.9")):
        refused = run_cli("predict", digit, *words)
        assert refused.code == 1
        assert "vit eval --calibrate --model experiments/mine" in refused.err
    assert run_cli("eval", "--calibrate").code == 0
    calibration = load_checkpoint(Run(run).best_checkpoint).calibration
    assert calibration is not None
    outcome = run_cli("predict", digit, "--sets", "0.9", "--json")
    (row,) = json.loads(outcome.out)["rows"]
    every = json.loads(run_cli("predict", digit, "--top-k", "10", "--json").out)["rows"][0]["probabilities"]
    assert len(row["classes"]) == max(sum(share >= calibration.least_probability(0.9) for share in every), 1)
    assert "sets: the set of an image has all classes with a probability of at least 0." in outcome.err
    assert "or else the most probable class" in outcome.err
    assert run_cli("predict", digit, "--sets", "0.9", "--top-k", "2").code == 2
    outcome = run_cli("predict", digit, "--coverage", "0.01", "--json")
    assert json.loads(outcome.out)["rows"][0]["is_unknown"] == (every[0] <= calibration.least_confidence(0.01))
    assert "so that 1 % of images like the validation images are answered" in outcome.err


def test_a_temperature_that_says_little_is_told_with_what_to_try() -> None:
    unsure, wrong = torch.tensor([[0.01, 0.0]]).repeat(200, 1), torch.tensor([[100.0, 0.0]]).repeat(200, 1)
    lowest = fit_temperature(unsure, torch.zeros(200, dtype=torch.int64))
    highest = fit_temperature(wrong, torch.tensor([0, 1]).repeat(100))
    assert "the lowest that is tried: the logits are very small" in doubt_about(lowest, 200)
    assert "the highest that is tried: the model knows little" in doubt_about(highest, 200)
    assert "only 99 validation images fitted the temperature" in doubt_about(1.3, 99)
    assert doubt_about(1.3, 100) == ""


def test_what_is_uncertain_is_told_where_a_model_is_calibrated(run_cli: RunCli, run: Path) -> None:
    path = Run(run).best_checkpoint
    kept = load_checkpoint(path)
    weak = {name: tensor * (1e-4 if name.startswith("head.") else 1) for name, tensor in kept.weights.items()}
    save_checkpoint(path, replace(kept, weights=weak))
    assert "so train longer" in run_cli("eval", "--calibrate").err
