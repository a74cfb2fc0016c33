"""Intervals: a bootstrap of images, by SciPy, and exact binomial bounds."""

import numpy as np
import pytest
import torch
from scipy import stats

from vitcli.judging.answers import collect
from vitcli.judging.intervals import mean_interval
from vitcli.judging.metrics import metrics_of

CLASSES = tuple(map(str, range(200)))


def judged(images: int, lead: float, seed: int = 0):
    """Logits of three classes, of which the true one leads; labels and names."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, images)
    logits = random.normal(size=(images, 3)) + lead * np.eye(3)[labels]
    return torch.from_numpy(logits), torch.from_numpy(labels), ("ant", "bee", "cat")


def metrics(logits, labels, classes, **options):
    return metrics_of(collect([(logits, labels)], classes), **options)


def test_the_intervals_are_those_of_a_bootstrap_of_images_within_each_class():
    logits, labels, classes = judged(600, 1.2)
    ours = metrics(logits, labels, classes)
    right = (logits.argmax(dim=1) == labels).numpy()

    def balanced(*groups, axis=-1):
        return np.mean([group.mean(axis=axis) for group in groups], axis=0)

    groups = [right[labels.numpy() == each] for each in range(3)]
    expected = stats.bootstrap(
        groups, balanced, n_resamples=4000, method="percentile", rng=1, vectorized=True
    ).confidence_interval
    assert ours.intervals["balanced_accuracy"] == pytest.approx((expected.low, expected.high), abs=0.006)
    assert ours.intervals["top1"][0] < ours.top1 < ours.intervals["top1"][1]
    assert set(ours.intervals) >= {"macro_f1", "weighted_f1", "kappa", "mcc", "loss", "top5"}


def test_classes_without_images_count_in_every_draw():
    """A model of 200 classes, of which ten have images: a class that one image is given to counts as 0 in the value, too."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 50)
    predicted = np.where(random.random(500) < 0.6, labels, random.integers(0, 200, 500))
    found = metrics(torch.nn.functional.one_hot(torch.from_numpy(predicted)).float(), torch.from_numpy(labels), CLASSES)
    for name in ("macro_f1", "macro_precision", "macro_recall"):
        low, high = found.intervals[name]
        assert low < getattr(found, name) < high, name


def test_they_contain_the_true_accuracy_as_often_as_they_say():
    truth = metrics(*judged(20_000, 1.0)).top1
    ends = [metrics(*judged(150, 1.0, seed)).intervals["top1"] for seed in range(1, 201)]
    covered = sum(low <= truth <= high for low, high in ends)
    assert covered >= 200 * 0.95 - 4 * (200 * 0.95 * 0.05) ** 0.5  # four standard deviations


@pytest.mark.parametrize(("lead", "images"), [(50.0, 40), (-50.0, 40), (50.0, 1)])
def test_where_all_answers_are_right_or_none_the_bound_is_the_binomial_one(lead: float, images: int):
    ours = metrics(*judged(images, lead))
    exact = stats.binomtest(round(ours.top1 * images), images).proportion_ci(method="exact")
    assert ours.intervals["top1"] == pytest.approx((exact.low, exact.high))
    assert "macro_f1" not in ours.intervals  # the bootstrap has no spread


def test_the_same_seed_gives_the_same_intervals():
    first, again, other = (metrics(*judged(100, 1.0), seed=seed).intervals for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).exponential(size=500)
    low, high = stats.norm.interval(0.95, loc=values.mean(), scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx((low, high))
    assert "loss" not in metrics(*judged(1, 1.0)).intervals  # one image has no spread


def test_shares_have_the_interval_of_wilson_however_the_classes_do():
    """A model that sees the difference, one that always answers the first class, and one image for each of many classes."""
    always = (
        torch.tensor([[5.0, 0, 0]]).repeat(100, 1),
        torch.tensor([0] * 60 + [1] * 25 + [2] * 15),
        ("ant", "bee", "cat"),
    )
    one_each = (
        torch.from_numpy(np.random.default_rng(0).normal(size=(130, 130))),
        torch.arange(130),
        [*map(str, range(130))],
    )
    for logits, truth, classes in (judged(80, 1.0), always, one_each):
        ours = metrics(logits, truth, classes)
        for name in ("top1", "top5"):
            share = getattr(ours, name)
            method = "exact" if share == 1 else "wilson"
            expected = stats.binomtest(round(share * len(truth)), len(truth)).proportion_ci(method=method)
            assert ours.intervals[name] == pytest.approx((expected.low, expected.high))
    assert "balanced_accuracy" not in metrics(*always).intervals
