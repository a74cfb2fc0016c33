"""Averages of weights against torch's and timm's, after the same steps."""

from itertools import repeat

import pytest
import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.builders.trainers import build_model
from vitcli.engine.ema import WeightAverage
from vitcli.engine.swa import EpochAverage

STEPS = 12


def steps(model):
    """The same model after one step and another, as a random walk."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
        yield model


def assert_alike(ours, theirs):
    pairs = dict(theirs.named_parameters())
    for name, tensor in ours.named_parameters():
        torch.testing.assert_close(tensor, pairs[name], atol=1e-7, rtol=2e-7)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.98])
def test_the_moving_average_is_torchs_with_a_decay_that_grows_from_0(decay):
    model = build_model()

    def average(averaged, current, count):
        get_ema_multi_avg_fn(min(decay, (1 + int(count - 1)) / (10 + int(count - 1))))(averaged, current, count)

    ours, theirs = WeightAverage(model, decay), AveragedModel(model, multi_avg_fn=average)
    for each in steps(model):
        ours.after_step(each)
        theirs.update_parameters(each)
    assert_alike(ours.model, theirs.module)


@pytest.mark.parametrize("decay", [0.02, 0.1])
def test_the_moving_average_is_timms_that_starts_after_the_first_step(decay):
    """Where the decay is so small that it need not grow."""
    model = build_model()
    ours, walk = WeightAverage(model, decay), steps(model)
    ours.after_step(next(walk))
    theirs = ModelEmaV3(model, decay=decay)
    for each in walk:
        ours.after_step(each)
        theirs.update(each)
    assert_alike(ours.model, theirs.module)


def test_after_many_steps_the_decay_is_the_one_that_was_asked_for():
    model = build_model()
    ours = WeightAverage(model, 0.5)
    for each in repeat(model, 9):
        ours.after_step(each)
    before = [tensor.clone() for tensor in ours.model.parameters()]
    ours.after_step(next(steps(model)))
    for mean, old, new in zip(ours.model.parameters(), before, model.parameters(), strict=True):
        torch.testing.assert_close(mean, (old + new) / 2)


@pytest.mark.parametrize(("is_empty", "share"), [(True, 1.0), (False, 0.5)])
def test_an_average_of_an_earlier_version_goes_on_at_its_decay(is_empty, share):
    model = build_model()
    ours = WeightAverage(model, 0.5)
    before = [tensor.clone() for tensor in model.parameters()]
    ours.load_state_dict({"model": model.state_dict(), "is_empty": is_empty})
    ours.after_step(next(steps(model)))
    for mean, old, new in zip(ours.model.parameters(), before, model.parameters(), strict=True):
        torch.testing.assert_close(mean, old + share * (new - old))


def test_the_mean_of_the_last_epochs_is_torchs():
    model = build_model()
    ours, theirs = EpochAverage(model, first=4), AveragedModel(model)
    for epoch, each in enumerate(steps(model), 1):
        ours.after_epoch(each, epoch)
        if epoch >= 4:
            theirs.update_parameters(each)
    assert_alike(ours.model, theirs.module)


def test_an_average_of_a_shorter_training_begins_anew_with_the_longer_one():
    model = nn.Linear(1, 1)

    def at(number):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(number)
        return model

    short = EpochAverage(model, first=8)
    for epoch in (8, 9, 10):
        short.after_epoch(at(epoch), epoch)
    longer, same = EpochAverage(model, first=10), EpochAverage(model, first=8)
    for average in (longer, same):
        average.load_state_dict(short.state_dict())
        for epoch in (11, 12):
            average.after_epoch(at(epoch), epoch)
    assert longer.model.bias.item() == pytest.approx(11.5)
    assert same.model.bias.item() == pytest.approx(10.0)
