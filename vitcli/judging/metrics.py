"""Metrics of a classifier, computed from its answers. Accuracies are in 0..1, losses in nats."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vitcli.core.errors import counted
from vitcli.judging.answers import Answers
from vitcli.judging.calibration import ReliabilityBin, expected_error, reliability
from vitcli.judging.counts import ClassCounts, summary
from vitcli.judging.intervals import Interval, accuracy_intervals, mean_interval


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMetrics:
    """Metrics of one class: its images, the correct predictions among them, precision, recall and F1."""

    name: str
    images: int
    correct: int
    predicted: int
    """The number of images that the model gives this class."""
    precision: float
    recall: float
    f1: float
    roc_auc: float | None
    """Area under the ROC curve, this class against all others; None: all or no images are of this class."""
    average_precision: float | None
    """Area under the precision-recall curve, as in scikit-learn; None: no image is of this class."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Metrics:
    """Metrics of a classifier on one split; every image counts exactly once."""

    images: int
    loss: float
    """The mean negative logarithm of the true class's probability."""
    top1: float
    top5: float
    """Share of the images whose class is among the five most probable (or all classes, if there are fewer)."""
    baseline: float
    """The accuracy of always answering the most frequent class."""
    balanced_accuracy: float
    """Mean recall of the classes that have images."""
    macro_precision: float
    """Mean over the classes that have images or were predicted, as in scikit-learn, as the next two."""
    macro_recall: float
    macro_f1: float
    weighted_precision: float
    """Mean over classes, weighted by their images, as the next two."""
    weighted_recall: float
    weighted_f1: float
    kappa: float | None
    """Cohen's kappa: agreement beyond chance; None: everything is of one class."""
    mcc: float
    """Matthews correlation coefficient, -1..1 (Gorodkin, 2004); 0 if it is not defined."""
    roc_auc: float | None
    """Mean over the classes for which it is defined, as the next one."""
    average_precision: float | None
    is_ranked_exactly: bool
    """False: the two above, of every class too, were computed in bins, because the table of probabilities is large."""
    ece: float
    """Expected calibration error in 15 bins of equal width."""
    adaptive_ece: float
    """Expected calibration error in 15 bins of equal size."""
    brier: float
    """Mean sum of squared differences between probabilities and truth, 0..2."""
    intervals: Mapping[str, Interval]
    """95 % intervals by metric, if they are defined: of ``top1`` and ``top5`` by the formula of Wilson (at 0 and 1 the
    exact ones), of the loss by its standard error, of the others by a bootstrap within each class."""
    reliability: tuple[ReliabilityBin, ...]
    classes: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, int, int], ...]
    """The confusion matrix without its zeros: true class, predicted class, number of images, in the order of classes."""

    @property
    def mean_confidence(self) -> float:
        """The mean probability of the predicted classes, 0..1; as high as the accuracy if probabilities are calibrated."""
        return sum(each.images * each.confidence for each in self.reliability) / self.images

    def __repr__(self) -> str:
        return f"<Metrics: top-1 {100 * self.top1:.2f} % of {counted(self.images, 'image')}, loss {self.loss:.4f}>"


def metrics_of(answers: Answers, *, seed: int = 0) -> Metrics:
    """Compute all metrics of a split.

    Args:
        answers: the answers, at least one.
        seed: the seed of the bootstrap.
    """
    count = len(answers.classes)
    support, predicted = (np.bincount(each, minlength=count) for each in (answers.truth, answers.predicted))
    correct = np.bincount(answers.truth[answers.is_right], minlength=count)
    counts = ClassCounts(support=support, predicted=predicted, correct=correct)
    numbers = {name: float(value) for name, value in summary(counts).items()}
    kappa = numbers.pop("kappa")
    ranked = list(answers.scores.by_class())
    aucs = [auc for auc, _ in ranked if auc is not None]
    averages = [average for _, average in ranked if average is not None]
    bins = reliability(answers)
    confusion = answers.confusion()
    in_top5 = int(np.count_nonzero(answers.rank <= answers.top.shape[1]))
    columns = (support, correct, predicted, counts.precision, counts.recall, counts.f1)
    return Metrics(
        images=len(answers),
        loss=float(answers.loss.mean()),
        top5=in_top5 / len(answers),
        baseline=float(support.max() / len(answers)),
        **numbers,
        kappa=None if math.isnan(kappa) else kappa,
        roc_auc=float(np.mean(aucs)) if aucs else None,
        average_precision=float(np.mean(averages)) if averages else None,
        is_ranked_exactly=answers.scores.is_exact,
        ece=expected_error(bins),
        adaptive_ece=expected_error(reliability(answers, equal_sizes=True)),
        brier=float(answers.squares.mean()),
        intervals={
            **({"loss": mean_interval(answers.loss)} if len(answers) > 1 else {}),
            **accuracy_intervals(confusion, support, in_top5, seed=seed),
        },
        reliability=bins,
        classes=tuple(
            ClassMetrics(
                name=name,
                images=images,
                correct=right,
                predicted=given,
                precision=precision,
                recall=recall,
                f1=f1,
                roc_auc=auc,
                average_precision=average,
            )
            for name, images, right, given, precision, recall, f1, (auc, average) in zip(
                answers.classes, *(column.tolist() for column in columns), ranked, strict=True
            )
        ),
        confusion=confusion,
    )
