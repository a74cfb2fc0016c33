from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitcli.core.errors import DataError
from vitcli.data.raw import FileSplit, Labels, stratified_split

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


@pytest.mark.parametrize(("small", "fraction"), [(0, 0.1), (1, 0.1), (2, 0.9)])
def test_a_class_that_is_too_small_is_named(small: int, fraction: float) -> None:
    labels = np.repeat(np.arange(2, dtype=np.int64), [10, small])
    with pytest.raises(DataError, match=rf"'dog' has too few images \({small}\)") as caught:
        stratified_split(labels, fraction=fraction, seed=0, classes=("cat", "dog"))
    assert "add images" in caught.value.hint


def test_some_files_of_a_split_keep_their_labels_and_the_order_asked_for() -> None:
    split = FileSplit(files=[Path("a"), Path("b"), Path("c")], labels=np.array([0, 1, 2]))
    taken = split.take(np.array([2, 0]))
    assert taken.files == [Path("c"), Path("a")]
    assert list(taken.labels) == [2, 0]
