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
from vitcli.engine.checkpoint import save_checkpoint
from vitcli.models.vit import VisionTransformer


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
        ({"image": torch.zeros(1, 4, 16)}, UsageError),
        ({"image": torch.zeros(3, 8, 8)}, UsageError),
        ({"image": torch.zeros(1, 8, 8, dtype=torch.uint8)}, UsageError),
    ],
)
def test_what_does_not_go_together_is_refused(loaded: Any, digit: Path, words: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        vitcli.attention_map(loaded, **{"image": digit, **words})


def test_a_bare_module_takes_tensors_alone(loaded: Any, digit: Path) -> None:
    with pytest.raises(UsageError, match="tensors"):
        vitcli.attention_map(loaded.model, digit)


def test_a_picture_is_turned_as_its_camera_says(loaded: Any, digit: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(digit) as image:
        image.save(tmp_path / "turned.jpg", exif=exif)
    file, picture = (
        vitcli.attention_map(loaded, image) for image in (tmp_path / "turned.jpg", Image.open(tmp_path / "turned.jpg"))
    )
    assert np.array_equal(file.weights, picture.weights)
    assert file.subject
    assert picture.subject
    assert np.array_equal(file.subject.pixels, picture.subject.pixels)


def test_a_model_without_classes_gives_maps_of_attention_alone(loaded: Any, digit: Path, tmp_path: Path) -> None:
    weights = {name: each for name, each in loaded.checkpoint.weights.items() if not name.startswith("head.")}
    model = replace(loaded.checkpoint.model, num_classes=0)
    save_checkpoint(tmp_path / "none.safetensors", replace(loaded.checkpoint, model=model, weights=weights, classes=()))
    found = vitcli.attention_map(tmp_path / "none.safetensors", digit, method="rollout")
    assert found.weights.shape == (4, 4)
    with pytest.raises(ModelError, match="no classifier"):
        vitcli.attention_map(tmp_path / "none.safetensors", digit, method="rollout", target="cat")


def test_a_single_class_has_nothing_to_contrast_it_with(loaded: Any) -> None:
    module = VisionTransformer(replace(loaded.checkpoint.model, num_classes=1))
    with pytest.raises(ModelError) as refusal:
        vitcli.attention_map(module, torch.zeros(1, 8, 8), score="contrast")
    assert refusal.value.hint == "without it, the logit is explained"
