"""Likely label errors: against the paper's definition in plain loops, and on digits whose labels were flipped."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from vitcli.core.events import ignore
from vitcli.judging.frozen_probe import cross_validated
from vitcli.judging.label_errors import find_label_errors, label_margins
from vitcli.judging.neighbours import directions, first_of_group, groups_within, near_distance, nearest


def random_probabilities(images: int, classes: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    probabilities = random.dirichlet(np.full(classes, 0.4), images).astype(np.float32)
    return probabilities, random.integers(0, classes, images)


def errors_by_definition(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> dict[int, int]:
    """Equation 1 of the paper, an image and a class at a time, without images whose label is the best class."""
    classes = probabilities.shape[1]
    thresholds = {
        kind: np.mean([float(row[kind]) for row, label in zip(probabilities, labels, strict=True) if label == kind])
        for kind in range(classes)
        if kind in labels
    }
    found = {}
    for at, (row, label) in enumerate(zip(probabilities, labels, strict=True)):
        reached = [kind for kind, least in thresholds.items() if row[kind] >= least - 1e-6]
        confident = max(reached, key=lambda kind: row[kind], default=label)
        if confident != label and row.argmax() != label:
            found[at] = confident
    return found


@given(st.integers(2, 60), st.integers(2, 6), st.integers(0, 10**6))
def test_errors_are_those_of_the_definition(images: int, classes: int, seed: int) -> None:
    probabilities, labels = random_probabilities(images, classes, seed)
    found = find_label_errors(probabilities, labels)
    assert dict(zip(found.images.tolist(), found.suggested.tolist(), strict=True)) == errors_by_definition(
        probabilities, labels
    )
    assert (np.diff(found.scores) <= 0).all(), "the surest is first"
    assert ((found.scores > 0) & (found.scores <= 1)).all()


def test_margins_compare_the_label_with_the_best_other_class() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.4, 0.4]], dtype=np.float32)
    assert label_margins(probabilities, np.array([0, 0, 2])) == pytest.approx([0.5, -0.5, 0], abs=1e-6)


def test_labels_that_agree_are_no_errors() -> None:
    labels = np.arange(30) % 3
    assert len(find_label_errors(np.eye(3, dtype=np.float32)[labels], labels).images) == 0


def digits_with_flips(seed: int) -> tuple[torch.Tensor, NDArray[np.int64], NDArray[np.bool_]]:
    """The pixels of the digits, labels of which one in twenty is another one, and which ones are."""
    from sklearn.datasets import load_digits

    pixels, truth = load_digits(return_X_y=True)
    random = np.random.default_rng(seed)
    is_flipped = random.random(len(truth)) < 0.05
    labels = truth.astype(np.int64)
    labels[is_flipped] = (labels[is_flipped] + random.integers(1, 10, is_flipped.sum())) % 10
    return torch.from_numpy(pixels.astype(np.float32)), labels, is_flipped


def test_flipped_labels_of_digits_are_found() -> None:
    from sklearn.metrics import roc_auc_score

    pixels, labels, is_flipped = digits_with_flips(0)
    features = directions(pixels)
    neighbours = nearest(features)
    first = first_of_group(groups_within(neighbours, near_distance(neighbours)), len(labels))
    names = tuple("0123456789")
    probabilities = cross_validated(features, labels, names, first=first, emit=ignore)
    assert roc_auc_score(is_flipped, -label_margins(probabilities, labels)) >= 0.99  # 0.95 is the bar
    found = find_label_errors(probabilities, labels).images
    assert is_flipped[found].mean() > 0.9, "nine of ten candidates are wrong labels"
    assert is_flipped[found].sum() > 0.65 * is_flipped.sum(), "and two of three wrong labels are candidates"


def test_copies_do_not_judge_each_other() -> None:
    """An image and its copy, both with the wrong label: each would confirm the other, if one could be learnt from."""
    pixels, labels, _ = digits_with_flips(0)
    features = directions(torch.cat([pixels, pixels[:1].repeat(300, 1)]))
    copies = np.r_[0, np.arange(len(pixels), len(features))]
    labels = np.r_[labels, np.full(300, labels[0])]
    labels[copies] = wrong = (labels[0] + 1) % 10
    first = np.arange(len(labels))
    first[copies] = 0
    apart = cross_validated(features, labels, tuple("0123456789"), first=first, emit=ignore)[0, wrong]
    mixed = cross_validated(features, labels, tuple("0123456789"), first=np.arange(len(labels)), emit=ignore)[0, wrong]
    assert apart < 0.1
    assert mixed > 0.5


def test_classes_with_few_images_are_not_judged() -> None:
    pixels, labels, _ = digits_with_flips(0)
    few = np.flatnonzero(labels == 3)[4:]
    kept = np.delete(np.arange(len(labels)), few)
    features, labels = directions(pixels[kept]), labels[kept]
    found = cross_validated(features, labels, tuple("0123456789"), first=np.arange(len(labels)), emit=ignore)
    assert (np.isnan(found).all(axis=1) == (labels == 3)).all()
    assert np.allclose(found[labels != 3].sum(axis=1), 1, atol=1e-5)
    assert (found[labels != 3, 3] == 0).all()
