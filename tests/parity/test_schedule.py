"""Learning-rate schedules against torch's own, whose learning rate is 1 at its peak."""

import contextlib
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, StepLR

from vitcli.core.errors import UsageError
from vitcli.core.optim_config import OptimConfig
from vitcli.engine.schedule import learning_rate_factor

SIZES = st.integers(1, 12)


def factors(steps_per_epoch, **settings):
    config = OptimConfig(**settings)
    factor = learning_rate_factor(config, steps_per_epoch)
    return [factor(step) for step in range(config.epochs * steps_per_epoch)]


def torch_factors(build, steps):
    """The learning rate of each of the optimiser's first steps."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = build(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("min_lr", [0.0, 0.1])
@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(1, 1), (1, 7), (5, 4), (30, 3)])
def test_cosine_is_torchs_cosine(epochs, steps_per_epoch, min_lr):
    total = epochs * steps_per_epoch
    ours = factors(steps_per_epoch, schedule="cosine", epochs=epochs, warmup_epochs=0, min_lr=min_lr)
    theirs = torch_factors(lambda optimizer: CosineAnnealingLR(optimizer, total, eta_min=min_lr), total)
    assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize(("step_size", "gamma"), [(1, 0.5), (2, 0.1), (3, 0.97), (10, 0.1)])
def test_step_is_torchs_step_stepped_once_an_epoch(step_size, gamma):
    ours = factors(4, schedule="step", epochs=7, warmup_epochs=0, step_size=step_size, gamma=gamma)
    per_epoch = torch_factors(lambda optimizer: StepLR(optimizer, step_size, gamma), 7)
    assert ours == pytest.approx([rate for rate in per_epoch for _ in range(4)], rel=1e-9)


@pytest.mark.parametrize("total", [2, 3, 4, 5, 10, 33, 100])
def test_one_cycle_is_torchs_one_cycle(total):
    ours = factors(1, schedule="one-cycle", epochs=total)
    theirs = torch_factors(lambda optimizer: OneCycleLR(optimizer, 1.0, total, cycle_momentum=False), total)
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_one_cycle_knows_steps_and_not_epochs():
    assert factors(5, schedule="one-cycle", epochs=4) == factors(1, schedule="one-cycle", epochs=20)


def test_one_cycle_has_its_own_warm_up():
    without = factors(3, schedule="one-cycle", epochs=9, warmup_epochs=0)
    assert factors(3, schedule="one-cycle", epochs=9, warmup_epochs=4) == without


def test_constant_is_constant():
    assert factors(3, schedule="constant", epochs=4, warmup_epochs=0) == [1.0] * 12


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine"])
def test_warm_up_is_linear_and_followed_by_the_peak(schedule):
    ours = factors(5, schedule=schedule, epochs=10, warmup_epochs=1.2, step_size=100)
    assert ours[:7] == pytest.approx([step / 7 for step in range(1, 8)])
    assert max(ours) == ours[6] == 1


def test_after_the_warm_up_cosine_runs_over_the_steps_that_are_left():
    ours = factors(5, schedule="cosine", epochs=10, warmup_epochs=2)
    theirs = torch_factors(lambda optimizer: CosineAnnealingLR(optimizer, 40), 40)
    assert ours[10:] == pytest.approx(theirs, abs=1e-6)


def test_after_the_warm_up_drops_come_at_the_same_epochs_as_without():
    without = factors(5, schedule="step", epochs=6, warmup_epochs=0)
    assert factors(5, schedule="step", epochs=6, warmup_epochs=1)[5:] == without[5:]


def test_warm_up_takes_half_of_the_training_at_most():
    ours = factors(4, schedule="cosine", epochs=3, warmup_epochs=100)
    assert ours[:7] == pytest.approx([step / 7 for step in range(1, 8)])
    assert ours[7] < 1


@given(
    schedule=st.sampled_from(["constant", "step", "cosine", "one-cycle"]),
    epochs=SIZES,
    steps_per_epoch=SIZES,
    warmup_epochs=st.floats(0, 20),
    min_lr=st.floats(0, 1, exclude_max=True),
    step_size=SIZES,
    gamma=st.floats(0.01, 1),
)
def test_factors_are_positive_and_never_above_1(steps_per_epoch, **settings):
    ours = factors(steps_per_epoch, **settings)
    assert all(0 < factor <= 1 + 1e-12 for factor in ours)


@given(
    schedule=st.sampled_from(["constant", "step", "cosine", "one-cycle"]),
    epochs=SIZES,
    steps_per_epoch=SIZES,
    warmup_epochs=st.floats(0, 20),
    gamma=st.floats(0.01, 1),
)
def test_factors_rise_to_one_peak_and_then_fall(steps_per_epoch, **settings):
    ours = factors(steps_per_epoch, **settings)
    peak = ours.index(max(ours))
    assert ours[: peak + 1] == sorted(ours[: peak + 1])
    assert ours[peak:] == sorted(ours[peak:], reverse=True)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"schedule": "step", "gamma": 10.0, "step_size": 1, "epochs": 400}, id="gamma above 1"),
        pytest.param({"schedule": "cosine", "warmup_epochs": math.inf}, id="infinite warm-up"),
    ],
)
def test_extreme_settings_are_refused_or_give_finite_factors(settings):
    with contextlib.suppress(UsageError):
        assert all(math.isfinite(factor) for factor in factors(2, **settings))
