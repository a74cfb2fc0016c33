"""Two classifiers on the same images: SciPy's binomial test and paired bootstrap, and what has no spread."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from vitcli.judging import comparison
from vitcli.judging.comparison import compare_answers, mcnemar


def answers(images: int, classes: int, *, seed: int = 0):
    """True classes, and the predictions and losses of two classifiers, of which the second is better."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, images)
    predicted = [
        np.where(random.random(images) < share, truth, random.integers(0, classes, images)) for share in (0.6, 0.7)
    ]
    return truth, tuple(predicted), tuple(random.exponential(scale, images) for scale in (1.0, 0.8))


@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemar_is_the_binomial_test_of_the_images_that_changed_sides(first: int, second: int):
    expected = stats.binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(first, second) == mcnemar(second, first)


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_intervals_are_those_of_a_paired_bootstrap(metric: str):
    truth, predicted, loss = answers(400, 4)
    found = {each.metric: each for each in compare_answers(truth, predicted, loss).differences}[metric]
    pairs = loss if metric == "loss" else tuple((each == truth).astype(float) for each in predicted)
    expected = stats.bootstrap(
        pairs,
        lambda one, other, axis: other.mean(axis=axis) - one.mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=5000,
        rng=1,
    ).confidence_interval
    assert found.difference == pytest.approx(pairs[1].mean() - pairs[0].mean())
    assert found.interval == pytest.approx((expected.low, expected.high), abs=0.1 * (expected.high - expected.low))


def test_metrics_of_classes_are_drawn_with_their_images():
    from sklearn.metrics import precision_recall_fscore_support

    def scores(truth, predicted):
        """Balanced accuracy and macro F1."""
        _, recall, f1, _ = precision_recall_fscore_support(truth, predicted)
        return recall.mean(), f1.mean()

    truth, predicted, loss = answers(200, 3)
    found = {each.metric: each for each in compare_answers(truth, predicted, loss).differences}
    random, drawn = np.random.default_rng(1), []
    for _ in range(100):
        at = random.integers(len(truth), size=len(truth))
        first, second = (scores(truth[at], each[at]) for each in predicted)
        drawn.append(np.subtract(second, first))
    first, second = (scores(truth, each) for each in predicted)
    for at, name in enumerate(("balanced accuracy", "macro F1")):
        assert (found[name].first, found[name].second) == pytest.approx((first[at], second[at]))
        low, high = np.quantile(np.array(drawn)[:, at], (0.025, 0.975))
        assert found[name].interval == pytest.approx((low, high), abs=0.2 * (high - low))


def test_classes_without_images_count_in_every_draw():
    random = np.random.default_rng(0)
    truth = np.repeat(np.arange(10), 50)
    predicted = tuple(np.where(random.random(500) < share, truth, random.integers(0, 200, 500)) for share in (0.5, 0.7))
    found = {each.metric: each for each in compare_answers(truth, predicted, (np.ones(500), np.ones(500))).differences}
    low, high = found["macro F1"].interval
    assert low < found["macro F1"].difference < high


def test_images_are_counted_by_who_is_right():
    truth = np.array([0, 0, 0, 1, 1, 2])
    first, second = np.array([0, 0, 1, 1, 0, 1]), np.array([0, 2, 0, 1, 1, 0])
    found = compare_answers(truth, (first, second), (np.ones(6), np.ones(6)))
    counts = (found.both_right, found.only_first, found.only_second, found.both_wrong, found.images)
    assert counts == (2, 1, 2, 1, 6)
    assert found.p_value == 1.0


@pytest.mark.parametrize("images", [1, 40])
def test_identical_answers_differ_by_less_than_the_binomial_bound(images: int):
    truth = np.arange(images) % 3
    loss = np.linspace(0, 1, images)
    found = compare_answers(truth, (truth, truth), (loss, loss))
    bound = stats.binomtest(0, images).proportion_ci(method="exact").high
    accuracy, *others = found.differences
    assert (accuracy.difference, found.p_value) == (0, 1)
    assert accuracy.interval == pytest.approx((-bound, bound))
    assert [each.interval for each in others] == [None, None, None]


@pytest.mark.parametrize("side", [1, -1])
def test_where_every_image_changes_sides_the_bound_is_the_binomial_one(side: int):
    truth, wrong = np.zeros(10, dtype=int), np.ones(10, dtype=int)
    predicted = (wrong, truth)[::side]
    low = stats.binomtest(10, 10).proportion_ci(method="exact").low
    accuracy = compare_answers(truth, predicted, (np.ones(10), np.zeros(10))).differences[0]
    assert accuracy.difference == side
    assert accuracy.interval == pytest.approx((low, 1) if side == 1 else (-1, -low))


def test_drawing_some_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    whole = compare_answers(*answers(50, 3))
    monkeypatch.setattr(comparison, "_MOST_CELLS", 700)
    assert compare_answers(*answers(50, 3)) == whole
