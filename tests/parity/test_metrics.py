"""Metrics against scikit-learn's."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from vitcli.engine.metrics import Tally, compute_metrics


@st.composite
def judged_images(draw):
    """Logits (float32), labels and names; some classes have no image, some no answer."""
    count = draw(st.integers(2, 12))
    size = draw(st.integers(1, 40))
    present = draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True))
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = generator.choice(present, size)
    logits = generator.normal(size=(size, count)).astype(np.float32)
    logits += draw(st.sampled_from([0, 1, 4])) * np.eye(count, dtype=np.float32)[labels]
    logits[:, draw(st.lists(st.integers(0, count - 1), max_size=count - 1))] -= draw(st.sampled_from([0, 20]))
    return torch.from_numpy(logits), torch.from_numpy(labels), tuple(f"class {index}" for index in range(count))


def softmax(logits):
    return logits.double().softmax(dim=1).numpy()


@given(judged_images())
def test_accuracy_and_confusion_are_those_of_scikit_learn(judged):
    logits, labels, classes = judged
    ours = compute_metrics(*judged)
    predicted = logits.numpy().argmax(axis=1)
    expected = sklearn_metrics.confusion_matrix(labels, predicted, labels=range(len(classes)))
    matrix = np.zeros_like(expected)
    for true, answer, number in ours.confusion:
        assert number > 0
        matrix[true, answer] = number
    assert np.array_equal(matrix, expected)
    assert ours.top1 == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert ours.images == len(labels) == sum(each.images for each in ours.classes)
    assert ours.top1 == pytest.approx(sum(each.correct for each in ours.classes) / ours.images)


@given(judged_images())
def test_the_loss_is_scikit_learns_log_loss(judged):
    logits, labels, classes = judged
    expected = sklearn_metrics.log_loss(labels, softmax(logits), labels=range(len(classes)))
    assert compute_metrics(*judged).loss == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(judged_images())
def test_precision_recall_and_f1_of_every_class_are_those_of_scikit_learn(judged):
    logits, labels, classes = judged
    ours = compute_metrics(*judged)
    predicted = logits.numpy().argmax(axis=1)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(len(classes)), zero_division=0
    )
    assert [each.name for each in ours.classes] == list(classes)
    assert [each.images for each in ours.classes] == list(support)
    assert [each.precision for each in ours.classes] == pytest.approx(list(precision))
    assert [each.recall for each in ours.classes] == pytest.approx(list(recall))
    assert [each.f1 for each in ours.classes] == pytest.approx(list(f1))
    macro = sklearn_metrics.f1_score(labels, predicted, average="macro")  # of the classes that are there or answered
    assert ours.macro_f1 == pytest.approx(macro)


@given(judged_images())
def test_top5_is_scikit_learns_top_k_accuracy(judged):
    logits, labels, classes = judged
    ours = compute_metrics(*judged).top5
    if len(classes) <= 5:
        assert ours == 1
    else:
        expected = sklearn_metrics.top_k_accuracy_score(labels, logits.numpy(), k=5, labels=range(len(classes)))
        assert ours == pytest.approx(expected)


def test_a_worked_example():
    logits = torch.tensor([[2.0, 0, 0], [0, 2, 0], [0, 2, 0], [2, 0, 0]])
    ours = compute_metrics(logits, torch.tensor([0, 0, 1, 0]), ("ant", "bee", "cat"))
    assert ours.confusion == ((0, 0, 2), (0, 1, 1), (1, 1, 1))
    assert (ours.images, ours.top1, ours.top5) == (4, 0.75, 1.0)
    ant, bee, cat = ours.classes
    assert (ant.images, ant.correct, ant.precision, ant.recall, ant.f1) == (3, 2, 1.0, 2 / 3, 0.8)
    assert (bee.images, bee.correct, bee.precision, bee.recall, bee.f1) == (1, 1, 0.5, 1.0, 2 / 3)
    assert (cat.images, cat.correct, cat.precision, cat.recall, cat.f1) == (0, 0, 0.0, 0.0, 0.0)
    assert ours.macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)


def test_the_loss_is_finite_where_the_probability_is_too_small_for_a_float():
    ours = compute_metrics(torch.tensor([[1000.0, 0.0]]), torch.tensor([1]), ("a", "b"))
    assert ours.loss == 1000


@given(judged_images(), st.integers(1, 9))
def test_batches_give_the_metrics_of_the_whole(judged, size):
    logits, labels, classes = judged
    tally = Tally(classes)
    for part in zip(logits.split(size), labels.split(size), strict=True):
        tally.add(*part)
    whole = compute_metrics(*judged)
    assert tally.metrics().loss == pytest.approx(whole.loss)
    assert replace(tally.metrics(), loss=0) == replace(whole, loss=0)
