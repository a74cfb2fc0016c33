"""Features of a model that is not trained, and class probabilities from them by cross-validation.

Shapes: N images, D features, K classes.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.errors import DataError
from vitcli.core.events import Emit, Note, TaskProgress
from vitcli.data.cache import PreparedSplit
from vitcli.data.loader import Batches
from vitcli.data.raw import Labels, stratified_folds
from vitcli.engine.evaluate import in_micro_batches
from vitcli.engine.micro_batches import MicroBatches
from vitcli.trained.loading import LoadedModel

FOLDS = 5
_PIXELS = 16
"""Pixels of each side of an image whose pixels are its features, at most."""
_BATCH = 64
_STRENGTH = 0.1
"""C of the logistic regression for features with a variance of 1: the inverse of the regularisation."""
_ITERATIONS = 25
"""Rounds of a fit, at most: more do not find more wrong labels, but learn them."""
_SLOPE, _SLOPE_OF_CLASS = 3e-3, 0.15
"""The largest slope at which a fit ends, and the same times the number of classes; the smaller of the two counts."""


@torch.no_grad()
def model_features(loaded: LoadedModel, splits: Sequence[PreparedSplit], emit: Emit) -> Tensor:
    """Compute the input of the model's head for every readable image, float32 (N, D), on the CPU."""
    total, parts, done = sum(len(each.readable()) for each in splits), list[Tensor](), 0
    micro_batches = MicroBatches(1, emit=emit)
    emit(TaskProgress(task="computing features", done=0, total=total))
    for split in splits:
        readable = torch.from_numpy(split.readable())
        for images, _ in Batches(
            split.images,
            split.labels,
            members=readable,
            batch_size=_BATCH,
            transform=loaded.to_input,
            device=loaded.device,
        ):
            model = loaded.for_inference
            features = in_micro_batches(model, images, loaded.precision, micro_batches, forward=model.features)
            parts.append(loaded.checked(features.flatten(1)).cpu())
            done += len(images)
            emit(TaskProgress(task="computing features", done=done, total=total))
    return torch.cat(parts)


def pixel_features(splits: Sequence[PreparedSplit]) -> Tensor:
    """Return the pixels of every readable image, averaged to at most 16 x 16, float32 (N, D)."""
    parts = []
    for split in splits:
        for some in torch.from_numpy(split.readable()).split(1024):
            images = split.images[some].float()
            height, width = images.shape[-2:]
            parts.append(F.adaptive_avg_pool2d(images, (min(height, _PIXELS), min(width, _PIXELS))).flatten(1))
    return torch.cat(parts)


def cross_validated(
    features: Tensor, labels: Labels, classes: tuple[str, ...], *, first: Labels, emit: Emit
) -> NDArray[np.float32]:
    """Predict each image by a logistic regression on the features of the other folds' images.

    Near-duplicates are in the same fold, so that no image is judged by a copy of itself.

    Args:
        features: features of length 1, (N, D).
        labels: the label of each image, (N,).
        classes: the names of the classes.
        first: for each image, the index of the first image of its group of near-duplicates, (N,).
        emit: receives the progress, and a note if the regression did not converge.

    Returns:
        The probabilities, (N, K); NaN for images that are in no fold, because their class has fewer than five.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    probabilities = np.full((len(labels), len(classes)), np.nan, dtype=np.float32)
    try:
        fold = stratified_folds(labels, folds=FOLDS, seed=0, classes=classes, first=first)
    except DataError:  # every class has too few images
        return probabilities
    known, matrix, slow = fold >= 0, features.numpy(), 0
    scale = np.float32(matrix.shape[1] ** 0.5)  # gives features of length 1 a variance of about 1
    task = "fitting logistic regressions"
    for number in range(FOLDS):
        emit(TaskProgress(task=task, done=number, total=FOLDS))
        fitted, judged = known & (fold != number), known & (fold == number)
        kinds = len(np.unique(labels[fitted]))
        if kinds < 2:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            regression = LogisticRegression(
                C=_STRENGTH, max_iter=_ITERATIONS, tol=min(_SLOPE, _SLOPE_OF_CLASS / kinds)
            ).fit(matrix[fitted] * scale, labels[fitted])
        slow += int(regression.n_iter_.max() >= _ITERATIONS)
        rows = np.flatnonzero(judged)
        probabilities[rows] = 0
        probabilities[np.ix_(rows, regression.classes_)] = regression.predict_proba(matrix[rows] * scale)
    emit(TaskProgress(task=task, done=FOLDS, total=FOLDS))
    if slow:
        emit(
            Note(text=f"{slow} of {FOLDS} logistic regressions stopped after {_ITERATIONS} rounds, before the optimum")
        )
    return probabilities
