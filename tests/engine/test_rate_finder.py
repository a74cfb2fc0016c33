"""The range test, on functions whose stable rates are known."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from tests.builders.trainers import Batches, build_trainer
from vitcli.core.errors import TrainingError
from vitcli.engine import rate_finder
from vitcli.engine.rate_finder import STEPS, RangeTest, RatePoint, range_test

PLAIN = {"optimizer": "sgd", "momentum": 0, "weight_decay": 0, "clip_grad": 0}


class Quadratic(nn.Module):
    """sum(curvatures (x - noise)^2) / 2: gradient descent is stable at rates below 2 / the greatest curvature.

    The noise is the batch's, as with real gradients: without it, x would be so near to 0 that it takes long to grow again.
    """

    no_decay = frozenset()

    def __init__(self, curvatures, *, noise=0.0):
        super().__init__()
        self.noise = noise
        self.x = nn.Parameter(torch.ones(len(curvatures)))
        self.register_buffer("curvatures", torch.tensor(curvatures))

    def forward(self, images):
        away = self.x - self.noise * images[:, 0, 0, 0].mean()
        return ((self.curvatures * away.square()).sum() / 2).expand(len(images), 1)

    def layer_of(self, _name):
        return 0

    def is_head(self, _name):
        return False


def quadratic_trainer(*curvatures, noise=0.0, **settings):
    trainer = build_trainer(Quadratic(curvatures, noise=noise), **{**PLAIN, "lr": 1.0, **settings})
    trainer.stepper.objective = lambda losses, *_targets: losses.sum()
    return trainer


@pytest.mark.parametrize("greatest", [0.1, 1.0, 30.0])
def test_divergence_is_found_just_above_the_largest_stable_rate(greatest):
    found = range_test(quadratic_trainer(greatest, greatest / 100, noise=0.3), "vit preview")
    stable = 2 / greatest
    assert stable < found.diverged < 3 * stable  # ten steps at the most, until the running mean has risen
    assert found.suggested < found.least <= stable
    assert found.suggested > stable / 1000


def test_rates_grow_by_the_same_factor_around_the_configured_one():
    found = range_test(quadratic_trainer(1e-3, lr=0.5), "vit preview")
    rates = [point.lr for point in found.points]
    assert rates[0] == pytest.approx(0.0005)
    assert rates[-1] == pytest.approx(500)
    assert len(rates) == STEPS
    assert np.diff(np.log(rates)) == pytest.approx(math.log(1e6) / (STEPS - 1))
    assert found.diverged is None


def test_losses_are_those_before_each_step():
    found = range_test(quadratic_trainer(1.0), "vit preview")
    x = 1.0
    for point in found.points:
        assert point.loss == pytest.approx(x * x / 2, rel=1e-4, abs=1e-12)
        x -= point.lr * x


def test_groups_keep_their_proportions():
    trainer = build_trainer(optimizer="muon", lr=0.02, adamw_lr=0.004, head_lr=0.1, schedule="cosine", epochs=30)
    seen = []
    step = trainer.optimizers.step

    def watched(scaler, *, clip_grad):
        seen.append(sorted({group["lr"] for group in trainer.optimizers.groups}))
        return step(scaler, clip_grad=clip_grad)

    trainer.optimizers.step = watched
    found = range_test(trainer, "vit preview")
    for rates, point in zip(seen, found.points, strict=False):
        assert rates == pytest.approx([0.2 * point.lr, point.lr, 5 * point.lr])


def test_a_suggestion_trains():
    settings = {"optimizer": "adamw", "lr": 1.0, "schedule": "cosine"}
    found = range_test(build_trainer(train=Batches(size=64, batch_size=16), **settings), "vit preview")
    assert 1e-3 < found.suggested < 0.2
    records = build_trainer(
        train=Batches(size=64, batch_size=16), epochs=15, **{**settings, "lr": found.suggested}
    ).fit()
    assert records[-1].val_accuracy > 0.9


@pytest.mark.parametrize(
    ("loss", "said"),
    [(lambda losses: 0 * losses + 2, "does not fall at any"), (lambda losses: losses * math.nan, "not a number")],
)
def test_where_no_rate_helps_none_is_suggested(loss, said):
    trainer = quadratic_trainer(1.0)
    trainer.stepper.objective = lambda losses, *_targets: loss(losses).sum()
    with pytest.raises(TrainingError, match=said):
        range_test(trainer, "vit preview")


def measured_on(curve, *, lr):
    """Run the range test on the loss that ``curve`` gives for each rate, with ``lr`` as the configured rate."""
    trainer = quadratic_trainer(1.0, lr=lr)
    rates = iter(lr * 10 ** (6 * step / (STEPS - 1) - 3) for step in range(STEPS))
    trainer.stepper.objective = lambda losses, *_targets: (0 * losses + curve(next(rates))).sum()
    return range_test(trainer, "vit preview")


def valley(rate):
    """Fall from 2.3 to 1.9 between rates of 0.001 and 0.03, then rise to 2.3 at 0.9, and no further."""
    return 2.3 - 0.4 * max(0, min(math.log(rate / 1e-3), math.log(0.9 / rate)) / math.log(30))


@pytest.mark.parametrize("lr", [0.005, 0.01, 0.02])
def test_a_loss_that_rises_clearly_above_its_minimum_diverges(lr):
    found = measured_on(valley, lr=lr)
    assert found.least == pytest.approx(0.03, rel=0.2)
    assert found.diverged == pytest.approx(0.2, rel=0.3)  # half of the way up
    assert found.suggested == pytest.approx(max(0.0128, min(lr, 0.02)), rel=0.3)


def test_a_small_rise_does_not_count_as_divergence():
    found = measured_on(lambda rate: min(valley(rate), 2.0) if rate > 0.03 else valley(rate), lr=0.02)
    assert found.diverged is None


def test_a_rise_within_the_noise_of_single_batches_tells_nothing():
    random = np.random.default_rng(0)
    fall = [2.31 - 0.03 * min(at, 40) / 40 + 0.01 * max(at - 40, 0) / 40 for at in range(80)]
    points = [
        RatePoint(lr=10 ** (at / 20 - 4), loss=loss + random.normal(scale=0.03), smoothed=loss)
        for at, loss in enumerate(fall)
    ]
    enough, best, still_good, lost = rate_finder._turns(points, "vit preview")
    assert enough.lr < best.lr < still_good.lr
    assert (still_good, lost) == (points[-1], None)


def test_smoothing_keeps_straight_lines_and_takes_away_noise():
    line = [3 - 0.1 * at for at in range(60)]
    assert rate_finder._smoothed(line)[25:-25] == pytest.approx(line[25:-25])
    noise = np.random.default_rng(0).normal(size=500).tolist()
    assert np.std(rate_finder._smoothed(noise)) < 0.35 * np.std(noise)
    assert rate_finder._smoothed([2.0]) == [2.0]


def test_progress_is_told():
    done = []
    found = range_test(quadratic_trainer(1.0), "vit preview", on_step=done.append)
    assert done == list(range(1, len(done) + 1))
    assert len(done) >= len(found.points)


def test_the_fall_and_the_noise_are_those_until_the_loss_is_lowest():
    points = tuple(RatePoint(lr=lr, loss=loss, smoothed=mean) for lr, loss, mean in ((1, 3, 2), (2, 1, 1.5), (3, 9, 5)))
    found = RangeTest(points=points, suggested=1, least=2, diverged=3)
    assert found.fall == 0.5
    assert found.noise == pytest.approx(math.sqrt((1 + 0.25) / 2))
