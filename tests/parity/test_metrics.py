"""Metrics against scikit-learn's."""

import warnings
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from vitcli.judging import scores
from vitcli.judging.answers import AnswerCollector, collect
from vitcli.judging.calibration import reliability
from vitcli.judging.metrics import metrics_of


def compute_metrics(logits, labels, classes):
    return metrics_of(collect([(logits, labels)], classes))


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


def sklearns(function, *args, **options):
    """Call a metric of scikit-learn; NaN where it is not defined, with or without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = function(*args, **options)
    return None if np.isnan(value) else value


@given(judged_images())
def test_metrics_of_answers_are_those_of_scikit_learn(judged):
    logits, labels, classes = judged
    ours, predicted = compute_metrics(*judged), logits.numpy().argmax(axis=1)
    expected = sklearn_metrics.confusion_matrix(labels, predicted, labels=range(len(classes)))
    matrix = np.zeros_like(expected)
    for true, answer, number in ours.confusion:
        assert number > 0
        matrix[true, answer] = number
    assert np.array_equal(matrix, expected)
    assert ours.top1 == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))
    assert ours.images == len(labels) == sum(each.images for each in ours.classes)
    assert ours.top1 == pytest.approx(sum(each.correct for each in ours.classes) / ours.images)
    top5 = (
        sklearn_metrics.top_k_accuracy_score(labels, logits, k=5, labels=range(len(classes))) if len(classes) > 5 else 1
    )
    assert ours.top5 == pytest.approx(top5)
    precision, recall, f1, support = sklearn_metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(len(classes)), zero_division=0
    )
    assert [each.name for each in ours.classes] == list(classes)
    assert [each.images for each in ours.classes] == list(support)
    assert [each.precision for each in ours.classes] == pytest.approx(list(precision))
    assert [each.recall for each in ours.classes] == pytest.approx(list(recall))
    assert [each.f1 for each in ours.classes] == pytest.approx(list(f1))
    for kind in ("macro", "weighted"):  # of the classes that are there or answered
        expected = sklearn_metrics.precision_recall_fscore_support(labels, predicted, average=kind, zero_division=0)
        found = [getattr(ours, f"{kind}_{name}") for name in ("precision", "recall", "f1")]
        assert found == pytest.approx(expected[:3])
    assert ours.balanced_accuracy == pytest.approx(sklearns(sklearn_metrics.balanced_accuracy_score, labels, predicted))
    assert ours.kappa == pytest.approx(sklearns(sklearn_metrics.cohen_kappa_score, labels, predicted))
    assert ours.mcc == pytest.approx(sklearns(sklearn_metrics.matthews_corrcoef, labels, predicted), abs=1e-12)


@given(judged_images())
def test_metrics_of_probabilities_are_those_of_scikit_learn_or_of_their_formulas(judged):
    logits, labels, classes = judged
    ours, shares = compute_metrics(*judged), softmax(logits)
    loss = sklearn_metrics.log_loss(labels, shares, labels=range(len(classes)))
    assert ours.loss == pytest.approx(loss, rel=1e-6, abs=1e-9)
    brier = ((shares - np.eye(len(classes))[labels]) ** 2).sum(axis=1).mean()
    assert ours.brier == pytest.approx(brier, abs=1e-12)
    confidence, right = shares.max(axis=1), logits.numpy().argmax(axis=1) == labels.numpy()
    error = 0.0
    for low in np.arange(15) / 15:  # bins (low, low + 1/15]
        inside = (confidence > low) & (confidence <= low + 1 / 15 + 1e-15)
        if inside.any():
            error += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    assert ours.ece == pytest.approx(error, abs=1e-9)
    aucs = []
    for at, each in enumerate(ours.classes):
        others = torch.cat([logits[:, :at], logits[:, at + 1 :]], dim=1).double().logsumexp(dim=1)
        own, scored = labels.numpy() == at, (logits[:, at].double() - others).numpy().astype(np.float32)
        if own.any():
            assert each.average_precision == pytest.approx(sklearn_metrics.average_precision_score(own, scored))
        else:
            assert each.average_precision is None
        if own.any() and not own.all():
            aucs.append(sklearn_metrics.roc_auc_score(own, scored))
            assert each.roc_auc == pytest.approx(aucs[-1])
        else:
            assert each.roc_auc is None
    assert ours.roc_auc == (pytest.approx(np.mean(aucs)) if aucs else None)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2))
def test_equal_scores_count_as_in_scikit_learn(images):
    own, values = (np.array(column) for column in zip(*images, strict=True))
    found = scores.ClassScores(scores=values[:, None].astype(np.float32), truth=np.where(own, 0, 1), bins=None)
    ((auc, average),) = found.by_class()
    assert auc == (pytest.approx(sklearn_metrics.roc_auc_score(own, values)) if 0 < own.sum() < len(own) else None)
    assert average == (pytest.approx(sklearn_metrics.average_precision_score(own, values)) if own.any() else None)


def test_in_bins_the_scores_of_a_large_table_differ_little(monkeypatch):
    random = np.random.default_rng(0)
    labels = torch.from_numpy(random.integers(0, 20, 4000))
    logits = torch.from_numpy(random.normal(size=(4000, 20)).astype(np.float32))
    logits[range(4000), labels] += 2
    exact = compute_metrics(logits, labels, tuple(map(str, range(20))))
    monkeypatch.setattr(scores, "_MOST", 30_000)
    monkeypatch.setattr(scores, "_AT_ONCE", 7_000)
    collector = AnswerCollector(tuple(map(str, range(20))))
    for part in zip(logits.split(333), labels.split(333), strict=True):
        collector.add(*part)
    binned = metrics_of(collector.answers())
    assert (exact.is_ranked_exactly, binned.is_ranked_exactly) == (True, False)
    for one, other in zip(exact.classes, binned.classes, strict=True):
        assert other.roc_auc == pytest.approx(one.roc_auc, abs=1e-4)
        assert other.average_precision == pytest.approx(one.average_precision, abs=4e-3)
    assert binned.loss == pytest.approx(exact.loss, rel=1e-6)
    assert binned.brier == pytest.approx(exact.brier, rel=1e-6)


@given(judged_images())
def test_bins_of_equal_size_share_all_images(judged):
    bins = reliability(collect([judged[:2]], judged[2]), equal_sizes=True)
    sizes = [each.images for each in bins]
    assert sum(sizes) == len(judged[1])
    assert max(sizes) - min(sizes) <= 1
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)


@given(judged_images())
def test_ranks_and_margins_are_those_of_sorted_probabilities(judged):
    logits, labels, classes = judged
    answers, shares = collect([(logits, labels)], classes), softmax(logits)
    for at, truth in enumerate(labels.tolist()):
        higher, ties = (shares[at] > shares[at, truth]).sum(), (logits[at] == logits[at, truth]).sum().item()
        assert higher < answers.rank[at] <= higher + ties
        first, second = np.sort(shares[at])[::-1][:2]
        assert answers.margin[at] == pytest.approx(first - second, abs=1e-12)
        assert answers.probability[at, 0] == pytest.approx(first)
        assert (answers.rank[at] == 1) == (answers.predicted[at] == truth)


def test_the_loss_is_finite_where_the_probability_is_too_small_for_a_float():
    ours = compute_metrics(torch.tensor([[1000.0, 0.0]]), torch.tensor([1]), ("a", "b"))
    assert ours.loss == 1000


@given(judged_images(), st.integers(1, 9))
def test_batches_give_the_metrics_of_the_whole(judged, size):
    logits, labels, classes = judged
    collector = AnswerCollector(classes)
    for part in zip(logits.split(size), labels.split(size), strict=True):
        collector.add(*part)
    parts, whole = (asdict(each) for each in (metrics_of(collector.answers()), compute_metrics(*judged)))
    for name, value in whole.items():
        assert parts[name] == (pytest.approx(value) if isinstance(value, float) else value)
