import os
import signal
import threading
from signal import SIGINT, SIGTERM

import pytest

from vitcli.core import interrupts
from vitcli.core.errors import Interrupted
from vitcli.core.interrupts import ending_at_once_by, stop_requests


def test_without_a_signal_there_is_no_request() -> None:
    with stop_requests() as stop:
        assert not stop


@pytest.mark.parametrize("number", [SIGINT, SIGTERM])
def test_a_signal_is_a_request_and_not_an_exception(number: signal.Signals) -> None:
    with stop_requests() as stop:
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal is number


def test_a_signal_that_a_launcher_hands_on_twice_is_one_request() -> None:
    with stop_requests() as stop:
        os.kill(os.getpid(), SIGTERM)
        os.kill(os.getpid(), SIGTERM)
        assert stop.signal is SIGTERM


@pytest.mark.parametrize(("number", "code"), [(SIGINT, 130), (SIGTERM, 143)])
def test_a_second_signal_ends_the_training_at_once(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int
) -> None:
    monkeypatch.setattr(interrupts, "_ONE_REQUEST_SECONDS", 0.0)
    with stop_requests():
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as caught:
            os.kill(os.getpid(), number)
    assert caught.value.exit_code == code


def test_who_runs_the_process_says_how_a_second_signal_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "_ONE_REQUEST_SECONDS", 0.0)
    ended: list[Interrupted] = []
    with ending_at_once_by(ended.append), stop_requests("--resume RUN") as stop:
        os.kill(os.getpid(), SIGINT)
        assert not ended
        os.kill(os.getpid(), SIGINT)
        assert [(error.message, error.hint) for error in ended] == [("stopped by Ctrl-C at once", "--resume RUN")]
        assert stop.error("in epoch 1").hint == "--resume RUN"
    with stop_requests():
        os.kill(os.getpid(), SIGINT)
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), SIGINT)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in (SIGINT, SIGTERM)]


def test_the_handlers_from_before_are_put_back() -> None:
    before = handlers()
    with stop_requests():
        assert handlers() != before
    assert handlers() == before


def test_the_handlers_from_before_are_put_back_after_a_failure() -> None:
    before = handlers()
    with pytest.raises(ZeroDivisionError), stop_requests():
        divmod(1, 0)
    assert handlers() == before


@pytest.mark.parametrize(("number", "code", "how"), [(SIGINT, 130, "Ctrl-C"), (SIGTERM, 143, "SIGTERM")])
def test_the_error_has_the_exit_code_of_the_signal(number: signal.Signals, code: int, how: str) -> None:
    with stop_requests() as stop:
        os.kill(os.getpid(), number)
    error = stop.error("in epoch 3")
    assert isinstance(error, Interrupted)
    assert error.exit_code == code
    assert error.message == f"stopped by {how} in epoch 3"


def test_a_block_within_a_block_passes_its_signal_on_at_its_end() -> None:
    with stop_requests() as outer:
        with stop_requests() as inner:
            os.kill(os.getpid(), SIGTERM)
            assert inner
            assert not outer
        assert outer.signal is SIGTERM


def test_outside_the_main_thread_it_is_a_request_that_never_comes() -> None:
    before = signal.getsignal(SIGINT)
    seen: list[bool] = []

    def work() -> None:
        with stop_requests() as stop:
            seen.append(bool(stop) or signal.getsignal(SIGINT) is not before)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
