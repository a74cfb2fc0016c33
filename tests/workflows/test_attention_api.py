"""vitcli.attention_map: one image, from Python."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitcli
from vitcli.attention.evidence import Options
from vitcli.core.errors import DataError, ModelError, UsageError
from vitcli.data.preprocess import load_array


@pytest.fixture(scope="module")
def loaded(trained_run: Path) -> Any:
    return vitcli.load_model(str(trained_run))


def test_a_file_a_picture_and_what_the_model_sees_give_one_map(loaded: Any, trained_run: Path, digit: Path) -> None:
    geometry = loaded.checkpoint.preprocessing.geometry
    seen = loaded.to_input(torch.from_numpy(load_array(digit, geometry))[None])[0]
    maps = [vitcli.attention_map(loaded, image).weights for image in (digit, str(digit), Image.open(digit), seen)]
    maps += [vitcli.attention_map(str(trained_run), digit).weights, vitcli.attention_map(loaded.model, seen).weights]
    assert maps[0].shape == (4, 4)
    assert all(np.array_equal(each, maps[0]) for each in maps)


def test_the_command_gives_the_same_map(run_cli: Callable[..., Any], loaded: Any, digit: Path, tmp_path: Path) -> None:
    found = vitcli.attention_map(loaded, digit, method="ig", target="3", score="contrast", steps=4)
    words = ("--method", "ig", "--class", "3", "--target", "contrast", "--steps", "4", "-o", tmp_path)
    assert run_cli("attention-map", digit, "--model", loaded.path, *words).code == 0
    with np.load(tmp_path / "digit.npz") as arrays:
        np.testing.assert_array_equal(arrays["ig.3"], found.weights)
    assert (found.method, found.target, found.prefix_share) == ("ig", "3", 0)


def test_classes_are_names_or_indices(loaded: Any, digit: Path) -> None:
    assert vitcli.attention_map(loaded, digit, target=7).target == "7"
    assert vitcli.attention_map(loaded, digit, method="rollout").target == ""


def test_a_number_is_an_index_whatever_classes_are_called(loaded: Any, digit: Path) -> None:
    checkpoint = replace(loaded.checkpoint, classes=tuple(reversed(loaded.checkpoint.classes)))
    other = replace(loaded, checkpoint=checkpoint)
    assert vitcli.attention_map(other, digit, target=7).target == "2"
    assert vitcli.attention_map(other, digit, target="7").target == "7"


def test_a_model_in_training_is_still_so_afterwards(loaded: Any) -> None:
    loaded.model.train()
    try:
        vitcli.attention_map(loaded.model, torch.zeros(1, 8, 8))
        assert loaded.model.training
    finally:
        loaded.model.eval()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ({"method": "all"}, UsageError),
        ({"target": "top3"}, UsageError),
        ({"target": "eleven"}, ModelError),
        ({"layers": (5,)}, ModelError),
        ({"target": 10}, ModelError),
        ({"score": "odds"}, UsageError),
        ({"options": Options(fusion="sum")}, UsageError),  # type: ignore[arg-type]
        ({"image": "absent.png"}, DataError),
        ({"image": torch.zeros(2, 1, 8, 8)}, UsageError),
    ],
)
def test_what_does_not_go_together_is_refused(loaded: Any, digit: Path, words: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        vitcli.attention_map(loaded, **{"image": digit, **words})


def test_a_bare_module_takes_tensors_alone(loaded: Any, digit: Path) -> None:
    with pytest.raises(UsageError, match="tensors"):
        vitcli.attention_map(loaded.model, digit)
