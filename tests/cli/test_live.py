"""What a terminal shows while a command runs."""

import io
from collections.abc import Iterator
from dataclasses import MISSING, fields, replace

import pytest
from rich.console import Console
from rich.text import Text

from vitcli.cli import progress as progress_module
from vitcli.cli.live import LiveListener, live_listener
from vitcli.cli.progress import PlainListener
from vitcli.core.events import EpochRecord, Note, TaskProgress, TrainingAhead, TrainingProgress, TrainingStarted
from vitcli.core.words import duration


@pytest.fixture
def listener() -> Iterator[LiveListener]:
    with live_listener(Console(file=io.StringIO(), force_terminal=True, width=80)) as listener:
        assert isinstance(listener, LiveListener)
        yield listener


def shown(listener: LiveListener, width: int = 80) -> list[str]:
    """The bars, one a line."""
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as captured:
        console.print(listener.progress.get_renderable())
    return [line.strip() for line in captured.get().splitlines()]


def step(epoch: int, step: int) -> TrainingProgress:
    figures = {"loss": 0.5, "accuracy": 0.75, "images_per_second": 1000.0, "step_loss": 0.4, "learning_rate": 0.1}
    return TrainingProgress(epoch=epoch, step=step, **figures)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (119.7, "2 min 00 s"),
        (125, "2 min 05 s"),
        (3599.6, "1 h 00 min"),
    ],
)
def test_times_are_rounded_as_a_whole(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def record(epoch: int) -> EpochRecord:
    needed = [field.name for field in fields(EpochRecord) if field.default is field.default_factory is MISSING]
    figures = dict.fromkeys(needed, 0.5)
    return EpochRecord(**{**figures, "epoch": epoch, "is_best": False})  # type: ignore[arg-type]


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
    assert shown(listener)[0].startswith("epoch 2/2 step 5/5 ")
    listener(TrainingStarted(epochs=3, steps_per_epoch=7))
    assert shown(listener) == []
    listener(step(1, 1))
    (line,) = shown(listener)
    assert line.startswith("epoch 1/3 step 1/7 ")


@pytest.mark.parametrize(
    ("width", "has", "lacks"),
    [
        (60, ["epoch 31/60", "loss 0.500  accuracy 75.00 %", "ETA"], ["step", "━", "images/s"]),
        (80, ["epoch 31/60 step 5/13 ━", "loss 0.500  accuracy 75.00 %", "ETA"], ["/780", "images/s"]),
        (120, ["epoch 31/60 step 5/13 ━", "loss 0.500  accuracy 75.00 %  1,000 images/s", "ETA"], ["/780"]),
    ],
)
def test_a_narrow_terminal_drops_columns_of_the_bar(width: int, has: list[str], lacks: list[str]) -> None:
    with live_listener(Console(file=io.StringIO(), force_terminal=True, width=width)) as listener:
        assert isinstance(listener, LiveListener)
        listener(TrainingStarted(epochs=60, steps_per_epoch=13))
        listener(step(31, 5))
        (line,) = shown(listener, width)
    assert all(part in line for part in has)
    assert not any(part in line for part in lacks)
    assert "…" not in line


def test_an_estimate_of_the_time_is_shown_before_training() -> None:
    text = io.StringIO()
    listener = PlainListener(Console(file=text, width=80))
    listener(TrainingAhead(epochs=61, images=1484, seconds=185))
    listener(TrainingAhead(epochs=1, images=1484, seconds=40))
    listener(TrainingAhead(epochs=20, images=1484, seconds=60, runs=5))
    assert text.getvalue().splitlines() == [
        "time: about 3 min 05 s for 61 epochs of 1,484 images",
        "time: about 40.0 s for 1 epoch of 1,484 images",
        "time: about 5 min 00 s for 5 runs of 20 epochs of 1,484 images",
    ]


def test_what_was_done_before_says_nothing_of_the_speed(listener: LiveListener) -> None:
    """A transfer that is resumed has not fetched its first half in no time."""
    listener(TaskProgress(task="fetching", done=500, total=1000))
    listener(TaskProgress(task="fetching", done=501, total=1000))
    (task,) = listener.progress.tasks
    assert sum(sample.completed for sample in task._progress) == 1


def written(listener: LiveListener) -> str:
    """All that was, with the codes that move the cursor."""
    return listener.console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


# without a terminal


class Clock:
    """Seconds that only a test lets pass."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_a_log_has_a_line_for_each_epoch_and_each_minute_of_a_long_one(clock: Clock) -> None:
    text = io.StringIO()
    listener = PlainListener(Console(file=text, width=200))
    listener(TrainingStarted(epochs=2, steps_per_epoch=100))
    for at in range(1, 101):
        clock.seconds += 1.5
        listener(step(1, at))
    listener(record(1))
    for at in range(1, 101):
        clock.seconds += 0.1
        listener(step(2, at))
    listener(record(2))
    lines = text.getvalue().splitlines()
    assert [line.split() for line in lines[:2]] == [["training", "validation"], ["epoch", *["loss", "accuracy"] * 2]]
    lines = lines[2:]
    assert [line.partition(":")[0][:20].strip() for line in lines[:2]] == [
        "epoch 1/2, step 41/1",
        "epoch 1/2, step 81/1",
    ]
    assert lines[0].endswith("images/s  ETA 3 min 58 s")  # 159 steps of 1.5 s
    assert lines[2].split()[:5] == ["1/2", "0.5000", "50.00", "%", "0.5000"]
    assert lines[2].endswith("ETA 2 min 30 s")
    assert lines[3].split()[0] == "2/2"
    assert "ETA" not in lines[3]
    assert len(lines) == 4


def test_an_epoch_that_is_better_than_all_before_is_marked() -> None:
    """With the same accuracy, a lower loss is better."""
    text = io.StringIO()
    listener = PlainListener(Console(file=text, width=80))
    best, worse = (replace(record(1), is_best=is_best, val_accuracy=0.5) for is_best in (True, False))
    listener(TrainingStarted(epochs=2, steps_per_epoch=1))
    for each in (best, worse):
        listener(each)
    lines = [line.partition("  ETA")[0] for line in text.getvalue().splitlines()[-2:]]
    assert [line.split()[-1] for line in lines] == ["best", "images/s"]
    listener(TrainingStarted(epochs=1, steps_per_epoch=1, keeps_best=False))
    listener(best)
    assert text.getvalue().splitlines()[-1].split()[-1] == "images/s"


def test_steps_of_before_a_resumption_say_nothing_of_the_speed(clock: Clock) -> None:
    text = io.StringIO()
    listener = PlainListener(Console(file=text, width=200))
    listener(TrainingStarted(epochs=10, steps_per_epoch=10, steps_done=80))
    clock.seconds += 20
    listener(record(9))
    assert text.getvalue().endswith("ETA 20.0 s\n")


def test_the_line_of_an_epoch_in_a_terminal_leaves_the_eta_to_the_bar(listener: LiveListener) -> None:
    listener(TrainingStarted(epochs=2, steps_per_epoch=5))
    listener(record(1))
    (line,) = [line for line in Text.from_ansi(written(listener)).plain.splitlines() if "images/s" in line]
    assert line.split()[0] == "1/2"
    assert "ETA" not in line
