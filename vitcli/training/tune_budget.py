"""The budget of a search for settings: the time that trials and finals take, and the finals that fit into it."""

import math
import time
from collections.abc import Sequence
from statistics import mean

from vitcli.core.errors import TrainingError
from vitcli.core.events import Emit, Note, Warned
from vitcli.core.runs import Run
from vitcli.core.search_limits import Finals, fitting
from vitcli.core.search_space import combinations
from vitcli.core.words import duration
from vitcli.training.finals import DEFAULT
from vitcli.training.study import Study, continue_command
from vitcli.training.trials import TrialRow, best_of, untried
from vitcli.training.tune_plan import LEAST_TRIALS

_TOLERANCE = 0.05
"""Share of the budget by which the finals may exceed it before fewer are chosen; no estimate is more exact."""
_SPARE = 1.25
"""Factor on the time that the user is asked for, because not all trainings take the same time."""


class Budget:
    """The time of a search, in earlier processes too, and the finals that its budget holds.

    Args:
        study: the study, which this process has locked.
        emit: is told if there are other finals than the usual ones.
    """

    def __init__(self, study: Study, emit: Emit) -> None:
        self.study, self.emit = study, emit
        self.chosen = study.stored.finals
        self._run = study.config.run
        self._began = time.monotonic() - study.stored.seconds
        self._is_told = False

    @property
    def seconds(self) -> float:
        """The time that the search has taken, in earlier processes too."""
        return time.monotonic() - self._began

    def save(self) -> None:
        """Store the time that the search has taken."""
        self.study.stored.seconds = self.seconds
        self.study.save()

    @property
    def finals(self) -> Finals:
        """The finals that the budget holds, as far as is known."""
        return self.chosen or self._possible_finals([])[0]

    def _possible_finals(self, rows: Sequence[TrialRow]) -> list[Finals]:
        return self.study.stored.limits.finals(has_default=not rows or rows[0].is_default)

    def choose_finals(self, rows: Sequence[TrialRow]) -> None:
        """Choose the finals that the budget holds by the time of the trials, and say so if they are not the usual ones.

        Raises:
            TrainingError: the budget holds none.
        """
        if not any(row.state == "finished" for row in rows):
            return
        stored, choices = self.study.stored, self._possible_finals(rows)
        budget = 60 * stored.minutes

        def fits(finals: Finals) -> bool:
            needed = self._seconds_to_end(finals, rows)
            return not needed or self.seconds + needed <= budget * (1 + _TOLERANCE * (finals == self.chosen))

        chosen, before = fitting(choices, fits), self.chosen or choices[0]
        if chosen is None:
            least, seconds = choices[-1], self._seconds_to_end(choices[-1], rows)
            enough = math.ceil((self.seconds + seconds * _SPARE) / 60)
            raise TrainingError(
                f"{stored.minutes:g} min are too few: {duration(self.seconds)} are used,"
                f" and {self.finals_in_words(least, rows)}; --minutes {enough} is enough",
                hint=f"`{continue_command(self.study.path)} --minutes {enough}` continues",
            )
        self.chosen = chosen
        words = self.finals_in_words(chosen, rows)
        if not fits(chosen) and not self._is_told:
            whole = duration(self.seconds + self._seconds_to_end(chosen, rows))
            excess = f"{words}, so the search takes about {whole}, more than {stored.minutes:g} min"
            self.emit(Warned(text=f"{excess}; you gave {stored.limits.given}; Ctrl-C stops the search"))
            self._is_told = True
        elif fits(chosen) and chosen != before:
            more = choices[0].trainings
            why = f"{stored.minutes:g} min do not hold {more}" if chosen != choices[0] else "there is time for all"
            self.emit(Note(text=f"finals: {words}; {why}"))

    def _is_all_tried(self, rows: Sequence[TrialRow]) -> bool:
        """Tell whether there are as many trials as were asked for, or one for each combination of a small space."""
        stored, space = self.study.stored, self.study.space
        if stored.trials and len(rows) >= stored.trials:
            return True
        return bool(combinations(space)) and not untried(rows, space, seed=self._run.seed)

    def has_time(self, rows: Sequence[TrialRow]) -> bool:
        """Tell whether another trial fits into the budget, before the finals."""
        if self._is_all_tried(rows):
            return False
        usual = mean(row.seconds for row in rows) if rows else self.study.stored.trial_seconds or 0.0
        return len(rows) < LEAST_TRIALS or self.seconds + usual <= self.seconds_for_trials(rows)

    def seconds_for_trials(self, rows: Sequence[TrialRow]) -> float:
        """Return the budget without the time of the finals."""
        return 60 * self.study.stored.minutes - self._seconds_of_finals(self.finals, rows)

    def _seconds_of_finals(self, finals: Finals, rows: Sequence[TrialRow]) -> float:
        """Estimate the time of the final trainings that have not ended: as long as the trials with the same settings."""
        known = {name: row.seconds for name, row in finalists_of(rows, finals).items()}
        usual, missing = self._usual_seconds(rows), self._missing_finalists(finals, rows)
        known[DEFAULT] = next((row.seconds for row in rows if row.is_default and row.state == "finished"), usual)
        to_come = sum(seconds * self._seeds_to_come(name, finals.seeds) for name, seconds in known.items())
        return to_come + missing * finals.seeds * usual

    def _seconds_to_end(self, finals: Finals, rows: Sequence[TrialRow]) -> float:
        """Estimate the time until these finals have ended, with the trials that are still needed to have the finalists."""
        return self._seconds_of_finals(finals, rows) + self._missing_finalists(finals, rows) * self._usual_seconds(rows)

    def _missing_finalists(self, finals: Finals, rows: Sequence[TrialRow]) -> int:
        """Return the number of finalists that trials have yet to find; 0 if there are no more trials."""
        return 0 if self._is_all_tried(rows) else finals.finalists - len(best_of(rows, finals.finalists))

    def _usual_seconds(self, rows: Sequence[TrialRow]) -> float:
        """Estimate the time of a whole training."""
        whole = [row.seconds for row in rows if row.state == "finished"]
        return mean(whole) if whole else self.study.stored.trial_seconds or 0.0

    def _seeds_to_come(self, name: str, seeds: int) -> int:
        """Return the number of final trainings of one configuration that have not ended."""
        first = self._run.seed + 1
        paths = [self.study.path / name / f"seed-{seed}" for seed in range(first, first + seeds)]
        return sum(not (path / "run.json").exists() or Run(path).status != "finished" for path in paths)

    def finals_in_words(self, finals: Finals, rows: Sequence[TrialRow]) -> str:
        """Say what the finals are, and how long they will take."""
        return f"{finals.words} take about {duration(self._seconds_of_finals(finals, rows))}"


def finalists_of(rows: Sequence[TrialRow], finals: Finals) -> dict[str, TrialRow]:
    """Return the best trials, by the name of the group of their final runs."""
    return {f"final-{row.number:04d}": row for row in best_of(rows, finals.finalists)}
