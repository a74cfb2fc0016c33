"""The images of training: whole photos, whatever their shape."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitcli.core.augment_config import AugmentConfig
from vitcli.core.config import DataConfig
from vitcli.core.events import Event, Warned, ignore
from vitcli.core.preprocessing import Geometry, Preprocessing
from vitcli.data.dataset import Dataset, open_dataset
from vitcli.training.images import geometries


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Landscapes, and one portrait with a red top and a blue bottom."""
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for at in range(3):
            Image.new("RGB", (160, 120), (at, 9, 9)).save(tmp_path / "photos" / name / f"{at}.png")
    portrait = Image.new("RGB", (90, 160), "white")
    portrait.paste((255, 0, 0), (0, 0, 90, 8))
    portrait.paste((0, 0, 255), (0, 152, 90, 160))
    portrait.save(tmp_path / "photos" / "a" / "portrait.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("cache", ["ram", "disk", "off"])
def test_random_crops_see_the_whole_of_a_portrait_among_landscapes(photos: Path, tmp_path: Path, cache: str) -> None:
    config = DataConfig(name=str(photos), cache=cache)  # type: ignore[arg-type]
    dataset: Dataset = open_dataset(config, directory=tmp_path / "data")
    _, geometry = geometries(dataset.facts, config, AugmentConfig(crop_scale=0.5), (48, 48), source=None)
    assert geometry.size == (48, 64)
    for _ in range(2):  # prepared, then read
        images = dataset.split("train", geometry, emit=ignore)
        assert images.stretch[:4].tolist() == pytest.approx([1, 1, 1, (90 / 64) / (160 / 48)])
        portrait = images.pixels()[3].numpy()
        assert np.abs(portrait[:, 0] - np.array([[255], [0], [0]])).max() < 30
        assert np.abs(portrait[:, -1] - np.array([[0], [0], [255]])).max() < 30


@pytest.mark.parametrize(
    ("model", "expected", "is_squashed"),
    [
        ((48, 48), (48, 384), True),
        ((16, 256), (16, 2048), True),
        ((16, 2**14), (82, 2**14), False),
        ((2**14, 2**14), (2**14, 2**15), True),
    ],
)
def test_strips_are_kept_at_a_size_that_is_possible(
    tmp_path: Path, model: tuple[int, int], expected: tuple[int, int], *, is_squashed: bool
) -> None:
    for name in ("a", "b"):
        (tmp_path / "strips" / name).mkdir(parents=True)
        Image.new("RGB", (8000, 40)).save(tmp_path / "strips" / name / "0.png")
    config = DataConfig(name=str(tmp_path / "strips"))
    facts = open_dataset(config, directory=tmp_path / "data").facts
    for given, size in ((facts, expected), (replace(facts, aspect=1 / facts.aspect), expected[::-1])):
        events: list[Event] = []
        at = model if given is facts else model[::-1]
        _, geometry = geometries(given, config, AugmentConfig(crop_scale=0.5), at, source=None, emit=events.append)
        assert geometry.size == size
        assert [isinstance(event, Warned) for event in events] == [True] * is_squashed


def test_fine_tuning_prepares_photos_as_the_weights_are_used_to(photos: Path, tmp_path: Path) -> None:
    config = DataConfig(name=str(photos))
    facts = open_dataset(config, directory=tmp_path / "data").facts
    theirs = Geometry(size=(48, 48), channels=3, resize="squash-crop", crop_fraction=0.8)
    source = Preprocessing(geometry=theirs, image_size=(48, 48), mean=(0.5,) * 3, std=(0.5,) * 3)
    for given, expected in ((config, theirs), (replace(config, crop_fraction=0.9), replace(theirs, crop_fraction=0.9))):
        geometry, training = geometries(facts, given, AugmentConfig(), (48, 48), source=source)
        assert geometry == training == expected
