import math

import pytest

from vitcli.core.errors import UsageError, counted, nearest
from vitcli.core.registry import Registry, load_object

COLOURS = Registry("colour", {"red": 1, "green": 2, "blue": 3}, listing="vit colours")


def test_it_is_a_mapping_in_the_order_given() -> None:
    assert dict(COLOURS) == {"red": 1, "green": 2, "blue": 3}
    assert list(COLOURS) == ["red", "green", "blue"]
    assert len(COLOURS) == 3


def test_membership_asks_for_the_name_and_raises_nothing() -> None:
    assert "red" in COLOURS
    assert "pink" not in COLOURS
    assert 3 not in COLOURS
    assert COLOURS.get("red") == 1


def test_an_unknown_name_comes_with_the_nearest_one_and_the_listing() -> None:
    with pytest.raises(UsageError) as caught:
        COLOURS["gren"]
    assert caught.value.message == "unknown colour 'gren'"
    assert "'green'" in caught.value.hint
    assert "vit colours" in caught.value.hint


def test_a_name_like_no_other_comes_with_the_listing() -> None:
    with pytest.raises(UsageError) as caught:
        COLOURS["zzzzzz"]
    assert "did you mean" not in caught.value.hint
    assert "vit colours" in caught.value.hint


SETTINGS = ["lr", "min_lr", "epochs", "batch_size", "weight_decay", "decay_all", "optimizer", "momentum"]


def test_only_a_near_name_is_suggested_and_usual_names_are_known() -> None:
    for name, known, meant in [
        *((name, SETTINGS, "lr") for name in ("lrr", "LR", "learning_rate", "lerning_rate", "learning-rate")),
        *((name, SETTINGS, "batch_size") for name in ("batch", "bs", "batchsize", "batch-size")),
        *((name, SETTINGS, "epochs") for name in ("epoch", "num_epochs", "epohcs")),
        *((name, SETTINGS, "weight_decay") for name in ("wd", "decay", "weightdecay")),
        ("opt", SETTINGS, "optimizer"),
        ("wasp", [*SETTINGS, "mnist", "shapes", "wds", "bee"], ""),
        ("size", SETTINGS, ""),
        ("--learning-rate", ["--lr", "--min-lr", "--log-steps"], "--lr"),
        ("vit_tiny_patch16", ["vit-tiny-patch8", "vit-tiny-patch16"], "vit-tiny-patch16"),
        ("mnits", ["mnist", "shapes"], "mnist"),
        ("rum", ["run", "other"], "run"),
        ("cifar", ["cifar10-classic", "cassava"], "cifar10-classic"),
    ]:
        assert nearest(name, known) == meant, name


def test_a_number_of_things_is_written_in_singular_or_plural() -> None:
    for count, what, text in [
        (1, "image", "1 image"),
        (0, "epoch", "0 epochs"),
        (2000, "image is", "2,000 images are"),
        (2, "class", "2 classes"),
    ]:
        assert counted(count, what) == text, what


def test_changing_the_source_table_changes_nothing() -> None:
    table = {"a": 1}
    registry = Registry("letter", table, listing="vit letters")
    table["b"] = 2
    assert list(registry) == ["a"]


def test_objects_are_loaded_by_module_and_name() -> None:
    assert load_object("math:sqrt") is math.sqrt
