"""The text of an error, as a traceback and a notebook show it."""

import traceback

from vitcli.core.errors import DeviceError, UsageError, counted


def test_a_traceback_shows_the_hint_that_an_error_has_in_the_end() -> None:
    error = UsageError("unknown colour 'gren'", hint="did you mean 'red'?")
    error.hint = "did you mean 'green'?"
    assert traceback.format_exception_only(error) == [
        "vitcli.core.errors.UsageError: unknown colour 'gren'\nhint: did you mean 'green'?\n"
    ]


def test_the_noun_and_the_verb_suit_the_number() -> None:
    assert [counted(count, "image is") for count in (0, 1, 2000)] == ["0 images are", "1 image is", "2,000 images are"]
    assert [counted(count, "test image") for count in (1, 2)] == ["1 test image", "2 test images"]
    assert [counted(count, "class") for count in (1, 2)] == ["1 class", "2 classes"]


def test_an_error_without_a_hint_is_its_message() -> None:
    assert str(DeviceError("no such device")) == "no such device"
