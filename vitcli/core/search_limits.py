"""The budget of a search for settings, and the final trainings that fit into it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitcli.core.errors import UsageError, counted

_FINALISTS, _SEEDS = (2, 1), (3, 2)
"""Numbers of finalists and of seeds if none are given, the usual one first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finals:
    """The final trainings: those of the default and of the finalists, each with every fresh seed."""

    finalists: int
    """The best trials, which are compared with the default."""
    seeds: int
    """Fresh seeds."""

    @property
    def trainings(self) -> int:
        """The number of trainings."""
        return (self.finalists + 1) * self.seeds

    @property
    def words(self) -> str:
        """The trainings in words."""
        return (
            f"{self.trainings} final trainings (the default and {counted(self.finalists, 'finalist')},"
            f" {counted(self.seeds, 'seed')} each)"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The budget of a search."""

    minutes: float = 60.0
    """The time, finals included; once they have begun, they are trained to their end."""
    trials: int = 0
    """The most trials; 0: as many as the budget holds."""
    finalists: int | None = None
    """The best trials, which are compared with the default; None: 2, or 1 if the budget does not hold more."""
    seeds: int | None = None
    """Fresh seeds that finalists and default are trained with; None: 3, or 2 if the budget does not hold more."""

    def __post_init__(self) -> None:
        numbers = {
            "minutes": 0 < self.minutes < float("inf"),
            "trials": self.trials >= 0,
            "finalists": self.finalists is None or self.finalists > 0,
        }
        for name, is_right in {**numbers, "seeds": self.seeds is None or self.seeds > 1}.items():
            if not is_right:
                wanted = "2 or more" if name == "seeds" else "positive"
                raise UsageError(f"--{name} {getattr(self, name):g} is not {wanted}", hint=f"for example --{name} 5")
        if self.trials == 1:
            raise UsageError("--trials 1 is the default alone", hint="for example --trials 20")

    @property
    def given(self) -> str:
        """The options among ``--finalists`` and ``--seeds`` that were given, in words; empty: neither was."""
        return " and ".join(f"--{name} {getattr(self, name)}" for name in ("finalists", "seeds") if getattr(self, name))

    def finals(self, *, has_default: bool) -> list[Finals]:
        """Return the possible finals, the usual ones first, then fewer finalists, then fewer seeds; a given number stays.

        Args:
            has_default: True if the first trial has the default settings, so that it cannot be a finalist.
        """
        most = self.trials - has_default if self.trials else max(_FINALISTS)
        finalists = [self.finalists] if self.finalists else [number for number in _FINALISTS if number <= most]
        seeds = [self.seeds] if self.seeds else _SEEDS
        return [
            *(Finals(finalists=number, seeds=seeds[0]) for number in finalists),
            *(Finals(finalists=finalists[-1], seeds=number) for number in seeds[1:]),
        ]


LEAST = Finals(finalists=min(_FINALISTS), seeds=min(_SEEDS))
"""The smallest finals that are chosen."""


def fitting(choices: Sequence[Finals], fits: Callable[[Finals], bool]) -> Finals | None:
    """Choose the first finals that fit into the budget.

    Returns:
        The finals; if none fit only because a number was given, the smallest of the choices. None: not even the smallest
        finals of all would fit.
    """
    smallest = choices[-1] if fits(LEAST) else None
    return next(filter(fits, choices), smallest)
