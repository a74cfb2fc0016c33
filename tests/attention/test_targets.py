import pytest
import torch

from vitcli.attention.targets import ClassChoice, class_indices, class_scores, parse_classes
from vitcli.core.errors import ModelError

CLASSES = ("7", "pred", "tench, Tinca tinca", "cat", "Dog", "dog", "0")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (["cat"], [ClassChoice(index=3)]),
        (["CAT"], [ClassChoice(index=3)]),
        (["tinca tinca"], [ClassChoice(index=2)]),
        (["dog"], [ClassChoice(index=5)]),
        (["7"], [ClassChoice(index=0)]),  # a name before an index
        (["0"], [ClassChoice(index=6)]),
        (["4"], [ClassChoice(index=4)]),
        (["pred"], [ClassChoice(index=1)]),
        (["top2"], [ClassChoice(rank=0), ClassChoice(rank=1)]),
        (["top99"], [ClassChoice(rank=rank) for rank in range(7)]),
        (["cat,top1, 7"], [ClassChoice(index=3), ClassChoice(rank=0), ClassChoice(index=0)]),
        (["cat,", "7"], [ClassChoice(index=3), ClassChoice(index=0)]),
        (["Tench, Tinca Tinca"], [ClassChoice(index=2)]),  # a name before its parts
        (["tinca tinca,cat"], [ClassChoice(index=2), ClassChoice(index=3)]),
        (["cat", "3", "top1", "cat"], [ClassChoice(index=3), ClassChoice(rank=0)]),
    ],
)
def test_classes_are_found_by_name_index_and_rank(asked, expected):
    assert parse_classes(asked, CLASSES) == expected


def test_pred_is_the_class_that_is_predicted_unless_one_is_called_so():
    assert parse_classes(["pred"], ("a", "b")) == [ClassChoice(rank=0)]


@pytest.mark.parametrize("asked", ["cta", "DOG", "8", "-1", "top0", "top", ""])
def test_a_class_that_there_is_not_is_refused(asked):
    with pytest.raises(ModelError, match=repr(asked)) as refusal:
        parse_classes([asked], CLASSES)
    assert refusal.value.hint


def test_the_nearest_class_is_suggested():
    with pytest.raises(ModelError) as refusal:
        parse_classes(["catt"], CLASSES)
    assert "cat" in refusal.value.hint


def test_ranks_are_of_each_image():
    logits = torch.tensor([[1.0, 5.0, 3.0], [9.0, 2.0, 4.0]])
    choices = [ClassChoice(rank=0), ClassChoice(rank=2), ClassChoice(index=2)]
    assert class_indices(choices, logits).tolist() == [[1, 0, 2], [0, 1, 2]]


def test_of_equal_logits_the_first_one_is_predicted():
    assert class_indices([ClassChoice()], torch.zeros(2, 1000)).tolist() == [[0], [0]]


def test_there_is_no_class_to_ask_a_model_without_any_about():
    with pytest.raises(ModelError, match="no classifier"):
        parse_classes(["cat"], ())


def test_the_contrast_is_the_log_odds():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    indices = torch.tensor([0, 3, 4, 1])
    share = logits.softmax(dim=1).gather(1, indices[:, None])[:, 0]
    torch.testing.assert_close(class_scores(logits, indices, "contrast"), (share / (1 - share)).log())
    torch.testing.assert_close(class_scores(logits, indices, "logit"), logits[torch.arange(4), indices])
