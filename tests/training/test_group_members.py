"""What a group of runs tells, nothing twice and the time of all together; and how it is stopped."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitcli.core.errors import Interrupted
from vitcli.core.events import Event, Note, TrainingAhead, TrainingStarted, Warned, ignore
from vitcli.core.interrupts import stop_requests
from vitcli.training.group_members import once_for_all, one_member

AHEAD = TrainingAhead(epochs=3, images=90, seconds=20)
STARTED = TrainingStarted(epochs=3, steps_per_epoch=9, steps_done=0, keeps_best=True)


def test_what_was_said_of_one_run_is_not_repeated_for_others() -> None:
    told: list[Event] = []
    said: set[str] = set()
    choice, rare, stopped = Note(text="labels: from train.csv"), Warned(text="a rare class"), Note(text="stopped early")
    for number in (1, 2, 3):
        emit = once_for_all(told.append, said, runs=4 - number)
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
    once_for_all(told.append, said, runs=5)(STARTED)
    once_for_all(told.append, said, runs=4)(AHEAD)
    assert isinstance(told[-1], TrainingAhead)
    assert told[-1].runs == 4


@pytest.fixture
def _ctrl_c_raises() -> Iterator[None]:
    """As in a terminal: pytest's workers may run where Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def late_signal(number: int, sent: signal.Signals) -> None:
    """Run the member of three with this number; a signal comes as its training looks for none any more."""
    with one_member(f"fold-{number}", number, 3, ignore, group=None) as begun:
        with stop_requests():
            os.kill(os.getpid(), sent)
        begun(Path("experiments/cv 1"))


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.usefixtures("_ctrl_c_raises")
def test_a_signal_that_is_too_late_for_a_run_stops_the_group(sent: signal.Signals, code: int) -> None:
    with pytest.raises(Interrupted) as stopped:
        late_signal(2, sent)
    assert stopped.value.exit_code == code
    assert stopped.value.message.endswith("after run 2 of 3; all is saved")
    assert stopped.value.hint == "`vit train --resume 'experiments/cv 1'` continues the group"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    late_signal(3, sent)  # the last one: there is nothing left to stop


@pytest.mark.usefixtures("_ctrl_c_raises")
def test_ctrl_c_before_a_training_stops_at_once() -> None:
    with (
        pytest.raises(Interrupted, match="in run 2 of 3") as stopped,
        one_member("fold-2", 2, 3, ignore, group=Path("experiments/cv")),
    ):
        signal.raise_signal(signal.SIGINT)
    assert "vit train --resume experiments/cv" in stopped.value.hint
