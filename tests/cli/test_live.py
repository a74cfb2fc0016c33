"""What a terminal shows while a command runs."""

import io
from collections.abc import Iterator

import pytest
from rich.console import Console

from vitcli.cli.live import LiveListener, live_listener
from vitcli.core.events import Note, TaskProgress, TrainingProgress, TrainingStarted


@pytest.fixture
def listener() -> Iterator[LiveListener]:
    with live_listener(Console(file=io.StringIO(), force_terminal=True, width=80)) as listener:
        assert isinstance(listener, LiveListener)
        yield listener


def shown(listener: LiveListener) -> list[str]:
    """The bars, one a line."""
    console = Console(file=io.StringIO(), width=80)
    with console.capture() as captured:
        console.print(listener.progress.get_renderable())
    return [line.strip() for line in captured.get().splitlines()]


def step(epoch: int, step: int) -> TrainingProgress:
    return TrainingProgress(epoch=epoch, step=step, loss=0.5, accuracy=0.75, images_per_second=1000)


def test_what_nobody_can_count_has_no_bar(listener: LiveListener) -> None:
    assert shown(listener) == ["loading torch"]
    listener(Note(text="model: vit"))
    assert shown(listener) == []


def test_what_is_counted_has_a_bar_until_it_is_done(listener: LiveListener) -> None:
    listener(TaskProgress(task="predicting", done=3, total=10))
    (line,) = shown(listener)
    assert line.startswith("predicting ")
    assert " 3/10 " in line
    assert "ETA" in line
    listener(TaskProgress(task="predicting", done=10, total=10))
    assert shown(listener) == []


def test_each_training_has_a_bar_of_its_own(listener: LiveListener) -> None:
    """One fold follows the other, and may have other numbers of epochs and steps."""
    listener(TrainingStarted(epochs=2, steps_per_epoch=5))
    listener(step(2, 5))
    assert " 10/10 " in shown(listener)[0]
    listener(TrainingStarted(epochs=3, steps_per_epoch=7))
    assert shown(listener) == []
    listener(step(1, 1))
    (line,) = shown(listener)
    assert line.startswith("epoch 1/3")
    assert " 1/21 " in line


def test_what_was_done_before_says_nothing_of_the_speed(listener: LiveListener) -> None:
    """A transfer that is resumed has not fetched its first half in no time."""
    listener(TaskProgress(task="fetching", done=500, total=1000))
    listener(TaskProgress(task="fetching", done=501, total=1000))
    (task,) = listener.progress.tasks
    assert sum(sample.completed for sample in task._progress) == 1
