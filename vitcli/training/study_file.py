"""The file ``study.json`` of a search for settings."""

from dataclasses import dataclass
from typing import Any

from vitcli.core.run_files import Status
from vitcli.core.search_limits import Finals, Limits

SCHEMA = 1


@dataclass(kw_only=True, slots=True)
class StudyFile:
    """The entries of ``study.json``."""

    schema: int = SCHEMA
    status: Status = "running"
    started: str
    ended: str | None = None
    command: list[str]
    dataset: str
    """The name of the data set, as in a command."""
    fingerprint: str
    """The fingerprint of the data."""
    val_is_fixed: bool
    """True if the data have a validation split, so that every seed has the same validation images."""
    settings: dict[str, dict[str, Any]]
    """The default settings."""
    space: list[str]
    """The searched settings and their values, as ``--search`` takes them."""
    minutes: float
    """The budget."""
    trials: int
    """The most trials; 0: as many as the budget holds."""
    finalists: int | None
    """The finalists that were asked for; None: as many as the budget holds, 2 at most."""
    seeds: int | None
    """The fresh seeds that were asked for; None: as many as the budget holds, 3 at most."""
    output: str
    """The file of the recipe; empty: ``recipe.toml`` in the folder of the study."""
    trial_seconds: float | None
    """The estimated time of a training; None: not known."""
    seconds: float = 0.0
    """The time that the search has taken so far."""
    final_finalists: int = 0
    """The finalists of the finals; 0: the finals have not begun."""
    final_seeds: int = 0
    """The fresh seeds of the finals; 0: the finals have not begun."""

    @property
    def limits(self) -> Limits:
        """The budget, checked."""
        return Limits(minutes=self.minutes, trials=self.trials, finalists=self.finalists, seeds=self.seeds)

    @property
    def finals(self) -> Finals | None:
        """The finals that were chosen when they began; None: they have not begun."""
        return Finals(finalists=self.final_finalists, seeds=self.final_seeds) if self.final_seeds else None

    @finals.setter
    def finals(self, chosen: Finals | None) -> None:
        self.final_finalists, self.final_seeds = (chosen.finalists, chosen.seeds) if chosen else (0, 0)
