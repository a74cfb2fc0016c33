"""Metrics that depend only on how many images each class has, is given, and is given correctly."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassCounts:
    """Numbers of images by class, (..., classes); leading dimensions are different confusion matrices."""

    support: NDArray[np.int64]
    """Images of the class."""
    predicted: NDArray[np.int64]
    """Images that the model gives the class."""
    correct: NDArray[np.int64]
    """Images for which both hold."""

    @property
    def precision(self) -> Floats:
        """Precision of each class; 0 without predictions."""
        return _ratios(self.correct, self.predicted)

    @property
    def recall(self) -> Floats:
        """Recall of each class; 0 without images."""
        return _ratios(self.correct, self.support)

    @property
    def f1(self) -> Floats:
        """F1 of each class; 0 without images and predictions."""
        return _ratios(2 * self.correct, self.support + self.predicted)


def summary(counts: ClassCounts, *, without_images: NDArray[np.bool_] | None = None) -> dict[str, Floats]:
    """Compute the metrics of ``Metrics`` that depend on counts alone, each of shape (...); NaN: not defined.

    Definitions are those of scikit-learn; kappa is by Cohen (1960), mcc by Gorodkin (2004).

    Args:
        counts: the numbers of images.
        without_images: for matrices that are drawn from another one, the classes, (classes,), that the model predicted there
            and that no image has: macro means count them as 0, also where a draw has none of these predictions.
    """
    support, predicted, correct = (
        each.astype(np.float64) for each in (counts.support, counts.predicted, counts.correct)
    )
    images = support.sum(axis=-1)
    is_seen, has_images = support + predicted > 0, support > 0
    if without_images is not None:
        is_seen = is_seen | without_images
    each = {"precision": counts.precision, "recall": counts.recall, "f1": counts.f1}
    top1 = correct.sum(axis=-1) / images
    agreeing = (support * predicted).sum(axis=-1)
    by_chance = agreeing / images**2
    spread = (images**2 - (predicted**2).sum(axis=-1)) * (images**2 - (support**2).sum(axis=-1))
    return {
        "top1": top1,
        "balanced_accuracy": (each["recall"] * has_images).sum(axis=-1) / has_images.sum(axis=-1),
        **{f"macro_{name}": (values * is_seen).sum(axis=-1) / is_seen.sum(axis=-1) for name, values in each.items()},
        **{f"weighted_{name}": (values * support).sum(axis=-1) / images for name, values in each.items()},
        "kappa": _ratios(top1 - by_chance, 1 - by_chance, otherwise=np.nan),
        "mcc": _ratios(correct.sum(axis=-1) * images - agreeing, np.sqrt(spread)),
    }


def _ratios(parts: NDArray[np.generic], wholes: NDArray[np.generic], *, otherwise: float = 0.0) -> Floats:
    """Return the ratios, or ``otherwise`` where the whole is 0."""
    ratios: Floats = np.divide(parts, wholes, out=np.full(np.shape(parts), otherwise), where=np.asarray(wholes) > 0)
    return ratios
