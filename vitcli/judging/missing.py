"""Reasons why numbers of an evaluation are missing, in words for the reader of its tables."""

from collections.abc import Sequence

from vitcli.core.errors import some
from vitcli.judging.metrics import Metrics

SHARES = {
    "top1": "accuracy (top-1)",
    "top5": "top-5 accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "weighted_f1": "weighted F1",
}
"""Scores in 0..1, by their name in ``Metrics``."""
NUMBERS = {
    "kappa": "Cohen's kappa",
    "mcc": "Matthews correlation",
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "loss": "loss",
}
"""Other scores, by their name in ``Metrics``."""
_MOST_NAMES = 8
"""Classes that are named, at most."""
_WITHOUT_INTERVAL = ("roc_auc", "average_precision")


def missing_scores(metrics: Metrics) -> list[str]:
    """Say why scores are not defined, and why some that are have no interval."""
    why = []
    if metrics.kappa is None:
        why.append("Cohen's kappa is not defined: all images and all predictions are of one class")
    if metrics.roc_auc is None:
        why.append("ROC-AUC is not defined: all images are of one class")
    without = [
        words
        for name, words in (SHARES | NUMBERS).items()
        if name not in {*metrics.intervals, *_WITHOUT_INTERVAL, "top5"} and getattr(metrics, name) is not None
    ]
    if without and metrics.images == 1:
        why.append(f"no interval of {_listed(without)}: one image does not tell how much they vary")
    elif without:
        is_one_class = sum(each.images > 0 for each in metrics.classes) == 1
        cause = "all images are of one class" if is_one_class else "all images of a class have the same prediction"
        why.append(f"no interval of {_listed(without)}: {cause}, so drawing them again changes nothing")
    return why


def missing_of_classes(metrics: Metrics) -> list[str]:
    """Say why numbers of classes are missing."""
    without = [each.name for each in metrics.classes if not each.images]
    never = [each.name for each in metrics.classes if not each.predicted]
    alone = [each.name for each in metrics.classes if each.images == metrics.images]
    return [
        f"{what}: {some(names, _MOST_NAMES)}"
        for what, names in (
            ("without images, so without accuracy and ROC-AUC", without),
            ("never predicted, so without precision", never),
            ("with all of the images, so without ROC-AUC", alone),
        )
        if names
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1]
