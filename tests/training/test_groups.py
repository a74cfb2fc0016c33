"""What a group of runs tells: nothing twice, and the time of all runs together."""

from vitcli.core.events import Event, Note, TrainingAhead, TrainingStarted, Warned
from vitcli.training.groups import _once_for_all

AHEAD = TrainingAhead(epochs=3, images=90, seconds=20)
STARTED = TrainingStarted(epochs=3, steps_per_epoch=9, steps_done=0, keeps_best=True)


def test_what_was_said_of_one_run_is_not_repeated_for_others() -> None:
    told: list[Event] = []
    said: set[str] = set()
    choice, rare, stopped = Note(text="labels: from train.csv"), Warned(text="a rare class"), Note(text="stopped early")
    for number in (1, 2, 3):
        emit = _once_for_all(told.append, said, runs=4 - number)
        for event in (Note(text=f"fold {number} of 3"), choice, rare, AHEAD, STARTED, rare, stopped):
            emit(event)
    first, *others = [event.text if isinstance(event, Note) else type(event).__name__ for event in told]
    assert first == "fold 1 of 3"
    own = ["TrainingStarted", "stopped early"]  # what is said in training is of this run
    assert others == [choice.text, "Warned", "TrainingAhead", *own, "fold 2 of 3", *own, "fold 3 of 3", *own]
    assert [event.runs for event in told if isinstance(event, TrainingAhead)] == [3]


def test_a_time_that_is_known_late_is_that_of_the_runs_that_are_left() -> None:
    told: list[Event] = []
    said: set[str] = set()
    _once_for_all(told.append, said, runs=5)(STARTED)
    _once_for_all(told.append, said, runs=4)(AHEAD)
    assert isinstance(told[-1], TrainingAhead)
    assert told[-1].runs == 4
