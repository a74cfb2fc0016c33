"""The reasons that are printed for missing numbers: one image, one class, classes without images or predictions."""

import pytest
import torch

from vitcli.judging.answers import collect
from vitcli.judging.comparison import compare_answers
from vitcli.judging.metrics import Metrics, metrics_of
from vitcli.judging.missing import missing_of_classes, missing_scores
from vitcli.judging.pairs import Pair

CLASSES = ("ant", "bee", "cat")


def metrics(truth: list[int], predicted: list[int]) -> Metrics:
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), len(CLASSES)) * 3.0
    return metrics_of(collect([(logits + torch.rand(len(truth), 3), torch.tensor(truth))], CLASSES))


@pytest.mark.parametrize(
    ("truth", "predicted", "scores", "of_classes"),
    [
        ([0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 0], [], []),
        ([0], [0], ["Cohen's kappa is not", "ROC-AUC is not", "loss: one image does not tell"], ["ant", "bee, cat"]),
        ([0, 0, 0], [0, 1, 0], ["ROC-AUC is not defined: all images are of one class"], ["bee, cat", "cat", "ant"]),
        ([0, 0, 0], [0, 1, 0], ["Matthews correlation: all images are of one class, so drawing them"], ["bee, cat"]),
        ([0, 1, 2], [1, 1, 2], ["all images of a class have the same prediction"], ["never predicted", "ant"]),
        ([0, 1, 0, 1], [1, 1, 0, 0], [], ["without images, so without accuracy and ROC-AUC: cat", "precision: cat"]),
    ],
)
def test_every_missing_number_has_a_reason(
    truth: list[int], predicted: list[int], scores: list[str], of_classes: list[str]
) -> None:
    found = metrics(truth, predicted)
    said = " | ".join(missing_scores(found))
    assert all(part in said for part in scores), said
    assert bool(said) == bool(scores)
    said = " | ".join(missing_of_classes(found))
    assert all(part in said for part in of_classes), said
    assert bool(said) == bool(of_classes)
    without = {name for name, value in (("kappa", found.kappa), ("ROC-AUC", found.roc_auc)) if value is None}
    assert all(f"{name} is not defined" in " ".join(missing_scores(found)) for name in without)


def test_a_difference_without_an_interval_has_a_reason() -> None:
    truth = torch.tensor([0, 1, 2]).numpy()
    loss = torch.tensor([0.1, 0.2, 0.3]).double().numpy()
    same = compare_answers(truth, (truth, truth), (loss, loss))
    pair = Pair(
        first="a", second="b", only_in_first=0, only_in_second=0, labelled_differently=0, comparison=same, changed=()
    )
    assert pair.missing().startswith("no interval of balanced accuracy, macro F1, loss: drawing the images again")
