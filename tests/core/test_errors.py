"""The text of an error, as a traceback and a notebook show it."""

import traceback

from vitcli.core.errors import DeviceError, UsageError


def test_a_traceback_shows_the_hint_that_an_error_has_in_the_end() -> None:
    error = UsageError("unknown colour 'gren'", hint="did you mean 'red'?")
    error.hint = "did you mean 'green'?"
    assert traceback.format_exception_only(error) == [
        "vitcli.core.errors.UsageError: unknown colour 'gren'\nhint: did you mean 'green'?\n"
    ]


def test_an_error_without_a_hint_is_its_message() -> None:
    assert str(DeviceError("no such device")) == "no such device"
