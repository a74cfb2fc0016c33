"""The budget of a search for settings."""

from dataclasses import dataclass

from vitcli.core.errors import UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """The budget of a search."""

    minutes: float = 60.0
    """The time, finals included; once they have begun, they are trained to their end."""
    trials: int = 0
    """The most trials; 0: as many as the budget holds."""
    finalists: int = 2
    """The best trials, which are compared with the default."""
    seeds: int = 3
    """Fresh seeds that finalists and default are trained with."""

    def __post_init__(self) -> None:
        numbers = {
            "minutes": 0 < self.minutes < float("inf"),
            "trials": self.trials >= 0,
            "finalists": self.finalists > 0,
        }
        for name, is_right in {**numbers, "seeds": self.seeds > 1}.items():
            if not is_right:
                wanted = "2 or more" if name == "seeds" else "positive"
                raise UsageError(f"--{name} {getattr(self, name):g} is not {wanted}", hint=f"for example --{name} 5")
        if self.trials == 1:
            raise UsageError("--trials 1 is the default alone", hint="for example --trials 20")

    @property
    def finals(self) -> int:
        """The number of final trainings."""
        return (self.finalists + 1) * self.seeds
