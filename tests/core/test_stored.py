"""JSON of other programs: what is wrong with it is said in plain words."""

import re
from dataclasses import dataclass
from typing import Any

import pytest

from vitcli.core.stored import checked, parse_json


@dataclass
class Point:
    x: int
    y: tuple[float, float] = (0.0, 0.0)
    name: str | None = None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"x": "ten"}, "x is text, not a whole number"),
        ({"x": 1, "name": True}, "name is true or false, not text or null"),
        ({"x": 1, "y": [1, "b"]}, "y[1] is text, not a number"),
        ({"x": 1, "y": [1]}, "y has length 1, not 2"),
        ({}, "x is missing"),
        ([], "it is a list, not an object"),
    ],
)
def test_a_value_of_another_kind_is_named_in_plain_words(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        checked(value, Point)


def test_a_text_that_is_not_json_says_so() -> None:
    with pytest.raises(ValueError, match="it is not JSON"):
        parse_json("{")
