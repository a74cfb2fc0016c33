"""The drawn data set: what is said about where objects are must be so in the pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vitcli.core.config import DataConfig
from vitcli.data.dataset import open_dataset
from vitcli.data.registry import DATASETS
from vitcli.data.shapes import CLASSES, SIZE, TEST_SEED, TRAIN_SEED, Scenes, draw_scenes

GOLDEN_LABELS = [[0, 6], [1, 3], [2, 5], [3, 5], [4, 5], [5, 4], [6, 1], [7, 4]]
GOLDEN_BOXES = [
    [[19, 30, 6, 16], [2, 13, 3, 14]],
    [[1, 12, 9, 20], [17, 29, 13, 25]],
    [[13, 23, 18, 30], [5, 13, 4, 13]],
]
GOLDEN_AREAS = [[94, 64], [70, 92], [93, 78]]
GOLDEN_COLOURS = [[40.9, 52.7, 35.1], [64.7, 70.0, 47.6], [81.3, 101.9, 89.9]]


@pytest.fixture(scope="module")
def one() -> Scenes:
    return draw_scenes(400, num_objects=1, seed=7)


@pytest.fixture(scope="module")
def two() -> Scenes:
    return draw_scenes(200, num_objects=2, seed=7)


@pytest.fixture(params=["one", "two"])
def scenes(request: pytest.FixtureRequest) -> Scenes:
    """Of one object, and of two."""
    found: Scenes = request.getfixturevalue(request.param)
    return found


def shifts(masks: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """A mask and its shifts by one pixel in eight directions."""
    return [np.roll(masks, (down, across), axis=(-2, -1)) for down in (-1, 0, 1) for across in (-1, 0, 1)]


def core(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels within a mask whose neighbours are within it, too."""
    return np.logical_and.reduce(shifts(masks))


def grown(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask and the pixels next to it."""
    return np.logical_or.reduce(shifts(masks))


def are_equal(first: Scenes, second: Scenes) -> bool:
    return all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("images", "masks", "labels"))


def box(mask: NDArray[np.bool_]) -> list[int]:
    """First and last row, first and last column."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(at) for at in (rows[0], rows[-1], columns[0], columns[-1])]


def test_shapes_and_types(scenes: Scenes) -> None:
    count, objects = scenes.labels.shape
    assert scenes.images.shape == (count, 3, SIZE, SIZE)
    assert scenes.images.dtype == np.uint8
    assert scenes.masks.shape == (count, objects, SIZE, SIZE)
    assert scenes.masks.dtype == np.bool_


def test_a_scene_depends_on_its_index_and_the_seed_alone(scenes: Scenes) -> None:
    objects = scenes.labels.shape[1]
    few = draw_scenes(10, num_objects=objects, seed=7)
    assert are_equal(few, Scenes(images=scenes.images[:10], masks=scenes.masks[:10], labels=scenes.labels[:10]))
    other = draw_scenes(10, num_objects=objects, seed=8)
    assert not (few.images == other.images).all(axis=(1, 2, 3)).any()


def test_every_class_is_the_first_objects_equally_often(scenes: Scenes) -> None:
    assert set(np.bincount(scenes.labels[:, 0], minlength=len(CLASSES))) == {len(scenes.labels) // len(CLASSES)}


def test_every_class_is_the_second_objects_and_never_the_firsts(two: Scenes) -> None:
    assert set(two.labels[:, 1]) == set(range(len(CLASSES)))
    assert (two.labels[:, 0] != two.labels[:, 1]).all()


def test_two_objects_are_apart(two: Scenes) -> None:
    assert not (grown(two.masks[:, 0]) & two.masks[:, 1]).any()


def test_objects_are_whole_and_of_the_size_that_is_said(scenes: Scenes) -> None:
    """At most a fifth of all patches is to be hit by chance, and an object off the edge is hard to tell."""
    share = scenes.masks.mean(axis=(2, 3))
    assert 0.055 <= share.min() <= share.max() <= 0.11
    inner = scenes.masks[:, :, 1:-1, 1:-1]
    assert inner.sum() == scenes.masks.sum()
    patches = scenes.masks.reshape(*scenes.masks.shape[:2], SIZE // 4, 4, SIZE // 4, 4).any(axis=(3, 5))
    assert patches.mean() < 0.18


def test_an_objects_colour_is_where_its_mask_is_and_nowhere_else(scenes: Scenes) -> None:
    """Each pixel lies between the background's colour (0) and the object's (1): edges halfway, blobs anywhere."""
    for image, masks in zip(scenes.images.astype(float), scenes.masks, strict=True):
        elsewhere = ~grown(masks).any(axis=0)
        ground = np.median(image[:, elsewhere], axis=1)
        for mask in masks:
            way = np.median(image[:, mask], axis=1) - ground
            assert np.mean(way) > 60
            share = np.tensordot(way, image - ground[:, None, None], axes=1) / np.sum(way**2)  # (S, S)
            assert np.mean(share[mask] > 0.4) > 0.95
            assert np.mean(share[elsewhere] < 0.4) > 0.9
            if core(mask).any():  # a ring may be too thin
                assert np.ptp(image[:, core(mask)], axis=1).max() < 60  # one colour, and noise


def test_colour_and_size_say_nothing_about_the_class(one: Scenes) -> None:
    """Means of each class are within the spread that chance leaves."""
    facts = np.array(
        [
            [*np.median(image[:, mask[0]], axis=1), mask[0].sum()]
            for image, mask in zip(one.images, one.masks, strict=True)
        ]
    )
    expected, spread = facts.mean(axis=0), facts.std(axis=0) / np.sqrt(len(one.labels) / len(CLASSES))
    for label in range(len(CLASSES)):
        assert (np.abs(facts[one.labels[:, 0] == label].mean(axis=0) - expected) < 4 * spread).all()


def stretched(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """What is within a mask's box, 12 x 12."""
    top, bottom, left, right = box(mask)
    rows, columns = (np.linspace(*ends, 12).round().astype(int) for ends in ((top, bottom), (left, right)))
    return mask[np.ix_(rows, columns)].astype(float)


def test_each_object_has_the_form_of_its_class(scenes: Scenes) -> None:
    """The mean form that is nearest, of objects in other pictures, is the class's."""
    others = draw_scenes(200, num_objects=1, seed=9)
    forms = np.array([stretched(mask) for mask in others.masks[:, 0]])
    means = np.array([forms[others.labels[:, 0] == label].mean(axis=0) for label in range(len(CLASSES))])
    found = np.array([stretched(mask) for mask in scenes.masks.reshape(-1, SIZE, SIZE)])
    nearest = ((found[:, None] - means) ** 2).sum(axis=(2, 3)).argmin(axis=1)
    assert np.mean(nearest == scenes.labels.ravel()) > 0.85


def test_shapes_stand_upright(one: Scenes) -> None:
    for name, is_wider_below in (("triangle", True), ("semicircle", True), ("heart", False)):
        masks = one.masks[one.labels[:, 0] == CLASSES.index(name), 0]
        form = np.mean([stretched(mask) for mask in masks], axis=0)
        assert (form[6:].sum() > form[:6].sum()) == is_wider_below


def test_a_ring_has_a_hole_and_a_circle_none(one: Scenes) -> None:
    for name, is_filled in (("ring", False), ("circle", True)):
        for mask in one.masks[one.labels[:, 0] == CLASSES.index(name), 0]:
            top, bottom, left, right = box(mask)
            assert mask[(top + bottom) // 2, (left + right) // 2] == is_filled


def test_scenes_are_what_they_always_were(two: Scenes) -> None:
    """Golden values; edges may differ by a pixel with another rasteriser."""
    assert two.labels[:8].tolist() == GOLDEN_LABELS
    assert np.abs(np.array([[box(mask) for mask in masks] for masks in two.masks[:3]]) - GOLDEN_BOXES).max() <= 1
    assert np.abs(two.masks[:3].sum(axis=(2, 3)) - GOLDEN_AREAS).max() <= 6
    assert np.abs(two.images[:3].mean(axis=(2, 3)) - GOLDEN_COLOURS).max() < 1


def test_the_data_set_is_these_scenes_and_its_splits_share_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A smaller one, whose scenes are drawn in the same way."""
    entry = DATASETS["shapes"]
    assert all(count % len(CLASSES) == 0 for count in entry.num_images)
    monkeypatch.setitem(DATASETS._entries, "shapes", replace(entry, num_images=(80, 32)))
    dataset = open_dataset(DataConfig(name="shapes"), directory=tmp_path)
    assert dataset.facts.counts == {"train": 80, "test": 32}
    geometry = dataset.facts.native_geometry
    assert geometry is not None
    assert dataset.facts.classes == CLASSES
    assert dataset.recipe == "shapes"
    seen: set[bytes] = set()
    for name, seed in (("train", TRAIN_SEED), ("test", TEST_SEED)):
        split = dataset.split(name, geometry)
        assert len(set(np.bincount(split.labels.numpy()))) == 1
        scenes = draw_scenes(16, num_objects=1, seed=seed)
        assert np.array_equal(split.images[:16].numpy(), scenes.images)
        assert np.array_equal(split.labels[:16].numpy(), scenes.labels[:, 0])
        pictures = {image.tobytes() for image in split.images.numpy()}
        assert len(pictures) == dataset.facts.counts[name]
        assert not pictures & seen
        seen |= pictures
