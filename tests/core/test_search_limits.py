"""The budget of a search for settings, and the finals that fit into it."""

import pytest

from vitcli.core.search_limits import Finals, Limits, fitting


def finals(*numbers: tuple[int, int]) -> list[Finals]:
    return [Finals(finalists=finalists, seeds=seeds) for finalists, seeds in numbers]


@pytest.mark.parametrize(
    ("limits", "choices"),
    [
        (Limits(), finals((2, 3), (1, 3), (1, 2))),
        (Limits(finalists=4), finals((4, 3), (4, 2))),
        (Limits(seeds=5), finals((2, 5), (1, 5))),
        (Limits(finalists=1, seeds=2), finals((1, 2))),
        (Limits(trials=2), finals((1, 3), (1, 2))),  # the default cannot be a finalist
    ],
)
def test_fewer_finalists_come_before_fewer_seeds_and_given_numbers_stay(limits: Limits, choices: list[Finals]) -> None:
    assert limits.finals(has_default=True) == choices


def test_without_the_default_both_trials_can_be_finalists() -> None:
    assert Limits(trials=2).finals(has_default=False)[0] == Finals(finalists=2, seeds=3)


@pytest.mark.parametrize(
    ("limits", "most", "chosen"),
    [
        (Limits(), 9, (2, 3)),
        (Limits(), 8, (1, 3)),
        (Limits(), 5, (1, 2)),
        (Limits(), 3, None),
        (Limits(seeds=4), 9, (1, 4)),
        (Limits(seeds=4), 7, (1, 4)),  # exceeds the budget, as the user wants four seeds
        (Limits(seeds=4), 3, None),
    ],
)
def test_the_most_finals_that_fit_are_chosen(limits: Limits, most: int, chosen: tuple[int, int] | None) -> None:
    found = fitting(limits.finals(has_default=True), lambda each: each.trainings <= most)
    assert found == (Finals(finalists=chosen[0], seeds=chosen[1]) if chosen else None)


def test_finals_and_given_numbers_in_words() -> None:
    assert Finals(finalists=1, seeds=2).words == "4 final trainings (the default and 1 finalist, 2 seeds each)"
    assert Limits(finalists=4, seeds=5).given == "--finalists 4 and --seeds 5"
    assert Limits(seeds=5).given == "--seeds 5"
    assert not Limits().given
