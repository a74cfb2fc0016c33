from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitcli.core.errors import DataError
from vitcli.data.raw import FileSplit, Labels, stratified_folds, stratified_split

SIZES = st.lists(st.integers(2, 30), min_size=2, max_size=6)
FRACTIONS = st.floats(0.01, 0.6)
SEEDS = st.integers(0, 2**32)


def shuffled_labels(sizes: list[int], seed: int) -> Labels:
    labels = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    return np.random.default_rng(seed).permutation(labels)


def names(sizes: list[int]) -> tuple[str, ...]:
    return tuple(f"class {index}" for index in range(len(sizes)))


@given(sizes=SIZES, fraction=FRACTIONS, seed=SEEDS)
def test_the_parts_are_disjoint_complete_sorted_and_have_every_class(
    sizes: list[int], fraction: float, seed: int
) -> None:
    labels = shuffled_labels(sizes, seed)
    kept, held_out = stratified_split(labels, fraction=fraction, seed=seed, classes=names(sizes))
    assert sorted([*kept, *held_out]) == list(range(len(labels)))
    assert list(kept) == sorted(kept)
    assert list(held_out) == sorted(held_out)
    assert set(labels[kept]) == set(labels[held_out]) == set(range(len(sizes)))


@given(sizes=SIZES, fraction=FRACTIONS, seed=SEEDS)
def test_each_class_gives_its_share_but_at_least_one(sizes: list[int], fraction: float, seed: int) -> None:
    labels = shuffled_labels(sizes, seed)
    _, held_out = stratified_split(labels, fraction=fraction, seed=seed, classes=names(sizes))
    counts = np.bincount(labels[held_out], minlength=len(sizes))
    assert list(counts) == [max(1, round(size * fraction)) for size in sizes]


@given(sizes=SIZES, seed=SEEDS)
def test_the_same_seed_gives_the_same_parts(sizes: list[int], seed: int) -> None:
    labels = shuffled_labels(sizes, seed)
    first, second = (stratified_split(labels.copy(), fraction=0.25, seed=seed, classes=names(sizes)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_another_seed_gives_other_parts() -> None:
    labels = shuffled_labels([50, 50], 0)
    first, second = (stratified_split(labels, fraction=0.2, seed=seed, classes=("a", "b"))[1] for seed in (1, 2))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("small", "fraction", "held_out"), [(0, 0.1, 0), (1, 0.1, 0), (2, 0.9, 1)])
def test_a_class_that_is_too_small_keeps_an_image(small: int, fraction: float, held_out: int) -> None:
    labels = np.repeat(np.arange(2, dtype=np.int64), [10, small])
    kept, held = stratified_split(labels, fraction=fraction, seed=0, classes=("cat", "dog"))
    assert (labels[held] == 1).sum() == held_out
    assert (labels[kept] == 1).sum() == small - held_out


def test_without_anything_to_hold_out_there_is_no_split() -> None:
    with pytest.raises(DataError, match="none can be held out") as caught:
        stratified_split(np.array([0, 1]), fraction=0.5, seed=0, classes=("cat", "dog"))
    assert "add images" in caught.value.hint


@st.composite
def with_copies(draw: st.DrawFn) -> tuple[Labels, Labels]:
    """Labels of images, and of every image the first that is the same; their labels may differ."""
    sizes = draw(st.lists(st.integers(4, 30), min_size=2, max_size=4))
    labels = shuffled_labels(sizes, draw(SEEDS))
    first = np.arange(len(labels))
    for _ in range(draw(st.integers(0, 8))):
        group = draw(st.lists(st.integers(0, len(labels) - 1), min_size=2, max_size=4, unique=True))
        same = np.flatnonzero(np.isin(first, first[group]))
        first[same] = same.min()
    return labels, first


@given(images=with_copies(), fraction=FRACTIONS, seed=SEEDS)
def test_images_that_are_the_same_are_on_one_side(images: tuple[Labels, Labels], fraction: float, seed: int) -> None:
    labels, first = images
    classes = tuple(map(str, range(labels.max() + 1)))
    kept, held = stratified_split(labels, fraction=fraction, seed=seed, classes=classes, first=first)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    assert not set(first[kept]) & set(first[held])
    folds = stratified_folds(labels, folds=2, seed=seed, classes=classes, first=first)
    assert np.array_equal(folds, folds[first])


@given(sizes=SIZES, fraction=FRACTIONS, seed=SEEDS)
def test_where_every_image_is_there_twice_the_shares_are_kept(sizes: list[int], fraction: float, seed: int) -> None:
    once = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
    labels, first = np.tile(once, 2), np.tile(np.arange(len(once)), 2)
    _, held = stratified_split(labels, fraction=fraction, seed=seed, classes=names(sizes), first=first)
    for index, size in enumerate(sizes):
        assert abs((labels[held] == index).sum() - 2 * size * fraction) <= 2


def test_some_files_of_a_split_keep_their_labels_and_the_order_asked_for() -> None:
    split = FileSplit(files=[Path("a"), Path("b"), Path("c")], labels=np.array([0, 1, 2]))
    taken = split.take(np.array([2, 0]))
    assert taken.files == [Path("c"), Path("a")]
    assert list(taken.labels) == [2, 0]
