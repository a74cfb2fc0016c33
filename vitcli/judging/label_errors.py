"""Likely label errors, by confident learning: probabilities that saw no label of the image itself contradict its label.

Source: Northcutt, Jiang & Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels".
Shapes: N images, K classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitcli.data.raw import Labels

_MANY = 0.2
"""Share of the labels above which doubts are mostly wrong, because fewer labels are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelErrors:
    """Images whose label is probably wrong, the surest first."""

    images: NDArray[np.int64]
    """Their indices, (M,)."""
    suggested: NDArray[np.int64]
    """The class that each probably has, (M,)."""
    scores: NDArray[np.float64]
    """Probability of the most probable other class minus that of the label, 0..1, (M,)."""


def label_margins(probabilities: NDArray[np.float32], labels: Labels) -> NDArray[np.float64]:
    """Compute the probability of each label minus that of the most probable other class, -1..1, (N,).

    The lower it is, the more probably the label is wrong (the paper's normalised margin).

    Args:
        probabilities: the probabilities of the classes, (N, K); the image must not have been trained on.
        labels: the label of each image, (N,).
    """
    rows = np.arange(len(labels))
    others = probabilities.astype(np.float64)
    own = others[rows, labels]
    others[rows, labels] = -np.inf
    margins: NDArray[np.float64] = own - others.max(axis=1)
    return margins


def find_label_errors(probabilities: NDArray[np.float32], labels: Labels) -> LabelErrors:
    """Find the images off the diagonal of the confident joint, and rank them by their margin.

    A class's threshold is the mean probability of that class over the images with its label. An image confidently
    belongs to the most probable of the classes whose thresholds it reaches. If that is not its label, and its label is
    not its most probable class either, the label is probably wrong.

    Args:
        probabilities: as for ``label_margins``.
        labels: the label of each image, (N,).
    """
    classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=classes)
    own = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    # A class without images has no threshold, and is never confident
    thresholds = np.where(counts, np.bincount(labels, own, minlength=classes) / np.maximum(counts, 1), np.inf)
    reached = np.where(probabilities >= thresholds - 1e-6, probabilities, -1)
    confident = reached.argmax(axis=1)
    is_off = (reached.max(axis=1) >= 0) & (confident != labels)
    margins = label_margins(probabilities, labels)
    found = np.flatnonzero(is_off & (margins < 0))
    found = found[np.argsort(margins[found], kind="stable")]
    return LabelErrors(images=found, suggested=confident[found], scores=-margins[found])


def why_unreliable(errors: int, judged: int, agreement: float | None) -> str:
    """Say why likely label errors are mostly wrong; empty: they are not.

    Args:
        errors: the number of likely label errors.
        judged: the number of labels that were judged.
        agreement: the share of these labels that are the most probable class, 0..1; None: none was judged.
    """
    if agreement is None:
        return "no label was judged: every class has too few images"
    if errors <= _MANY * judged:
        return ""
    share = f"only {100 * agreement:.1f} % are the most probable class"
    return f"{errors:,} of {judged:,} labels are doubted, mostly wrongly, because {share}: a better --model is needed"
