"""The settings that a search varies: words, files, the usual ones, and what a trial makes of them."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import naming
from vitcli.core.augment_config import AugmentConfig
from vitcli.core.config_files import configure, load_recipe, recipe_names
from vitcli.core.errors import FileError, UsageError
from vitcli.core.search_space import (
    STRENGTH,
    Choices,
    Range,
    combinations,
    default_values,
    load_space,
    parse_search,
    searched,
    settings_with,
)
from vitcli.core.usual_space import usual_space


class First:
    """What Optuna hands to a dimension, which takes the lowest or the first value."""

    def suggest_float(self, _name: str, low: float, _high: float, *, log: bool) -> float:  # noqa: ARG002
        return low

    suggest_int = suggest_float

    def suggest_categorical(self, _name: str, choices: Any) -> Any:
        return choices[0]


def test_words_are_ranges_or_lists() -> None:
    assert parse_search(
        [
            "optim.lr=1e-4..1e-1:log",
            "optim.epochs=5..20",
            "model.depth=2, 4,6",
            "optim.optimizer=muon,adamw",
            "optim.betas=[0.9,0.99],[0.9,0.999]",
            "optim.ema=true,false",
            "augment.strength=0..2",
        ]
    ) == [
        Range(setting="optim.lr", low=1e-4, high=0.1, is_log=True),
        Range(setting="optim.epochs", low=5, high=20, is_whole=True),
        Choices(setting="model.depth", values=("2", "4", "6")),
        Choices(setting="optim.optimizer", values=("muon", "adamw")),
        Choices(setting="optim.betas", values=("[0.9,0.99]", "[0.9,0.999]")),
        Choices(setting="optim.ema", values=("true", "false")),
        Range(setting=STRENGTH, low=0, high=2),
    ]


def test_a_bad_word_is_refused_with_what_to_type() -> None:
    for word, message, hint in [
        ("optim.lr", "--search 'optim.lr' is not of the form section.key=value", "--search optim.lr=1e-4..1e-1:log"),
        ("lr=1..2", "is not of the form", "did you mean --search optim.lr=1..2?"),
        ("optim.lrr=1,2", "unknown key 'optim.lrr'", "did you mean 'optim.lr'?"),
        ("optm.lr=1,2", "unknown section 'optm'", "did you mean 'optim'?"),
        ("about.lr=1,2", "about.lr cannot be searched", "--set"),
        ("model.num_classes=2,3", "model.num_classes cannot be searched: it comes from the data set", "--search optim"),
        ("optim.lr=0.1", "two or more different values", "--search model.depth=2,4,6"),
        ("optim.lr=0.1,0.1", "two or more different values", "--search"),
        ("optim.lr=0.1,1e-1", "two or more different values", "--search"),
        ("optim.lr=", "optim.lr = ''", "--search"),
        ("optim.lr=0.1..0.01", "0.1 is not below 0.01", "--search"),
        ("optim.lr=0.1..", "is not a range from one number to another", "--search"),
        ("optim.lr=-1..1", "optim.lr = -1", "--search"),
        ("optim.lr=0..1:log", "a logarithmic range is above 0", "--search"),
        ("optim.lr=0.1..1:lin", "ends with ':lin'", ":log"),
        ("optim.lr=1..1e999", "optim.lr = inf", ""),
        ("optim.epochs=0.5..3", "optim.epochs = 0.5 is not a whole number", ""),
        ("optim.ema=0..1", "optim.ema = 0 is not true or false", ""),
        ("model.name=1..2", "model.name is not a number", "list its values"),
        ("optim.optimizer=muon,adamm", "optim.optimizer = 'adamm'", "'adam"),
        ("run.seed=1..5", "run.seed cannot be searched: it says where and how a run is made", "--set chooses it"),
        ("data.val_fraction=0.1,0.2", "scores on other images cannot be compared", "--set"),
        ("optim.keep=best,last", "best and of the last epoch cannot be compared", "--set"),
        ("augment.strength=-1..2", "augment.strength = '-1' is not a number from 0 to 10", "factor on all strengths"),
        ("augment.strength=low,high", "augment.strength = 'low'", "factor on all strengths"),
    ]:
        with naming(word):
            with pytest.raises(UsageError) as caught:
                parse_search([word])
            assert message in caught.value.message
            assert "--search" in caught.value.message
            assert hint in caught.value.hint


def test_a_setting_is_searched_once() -> None:
    with pytest.raises(UsageError, match=r"optim\.lr is searched twice"):
        parse_search(["optim.lr=0.1,0.2", "optim.lr=0.1..0.2"])


@given(st.text(alphabet="optimlrdephbsz.=,:[]01.-e \"'", max_size=30) | st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    for word in (text, f"optim.lr={text}", f"model.depth={text}", f"augment.strength={text}"):
        try:
            (found,) = parse_search([word])
        except UsageError:
            continue
        assert parse_search([f"{found.setting}={found.text}"]) == [found]


@given(
    st.floats(0, 1e6, allow_subnormal=False),
    st.floats(0, 1e6, allow_subnormal=False),
    st.booleans(),
)
def test_a_range_is_written_as_it_is_read_and_its_values_lie_within(one: float, other: float, is_log: bool) -> None:  # noqa: FBT001
    low, high = sorted((one, other))
    if low == high or (is_log and low == 0) or high < 1e-300:
        return
    (found,) = parse_search([f"optim.adamw_lr={low or 1e-9!r}..{high!r}{':log' * is_log}"]) if high > 1e-9 else (None,)
    if isinstance(found, Range):
        assert parse_search([f"optim.adamw_lr={found.text}"]) == [found]
        value = found.suggest(First())
        assert isinstance(value, float)
        assert found.low <= value <= found.high
        assert math.isclose(value, found.low, rel_tol=0.01)


def test_a_file_has_ranges_and_lists(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text('[optim]\nlr = "1e-4..1e-1:log"\nbatch_size = [64, 128]\nema = [true, false]\n')
    assert load_space(file) == parse_search(
        ["optim.lr=1e-4..1e-1:log", "optim.batch_size=64,128", "optim.ema=true,false"]
    )
    assert searched(file, ["optim.lr=0.1,0.2"])[0] == Choices(setting="optim.lr", values=("0.1", "0.2"))
    assert searched(None, ()) == []


def test_a_bad_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    for text, message in [
        (None, "no such file of a search space"),
        ("[optim\n", "is not a TOML file"),
        ("", "names no setting to search"),
        ("lr = 3\n", "lr = 3 is not in a section"),
        ("[optim]\nlr = 0.1\n", "optim.lr = 0.1 is neither a range nor a list"),
        ('[optim]\nlr = "1e-4"\n', "two or more different values"),
        ("[optim]\nlr = []\n", "optim.lr = [] has no values"),
        ('[optim]\nlr = ["a", "b"]\n', "optim.lr = 'a' is not a number"),
        ("[optim]\nlrr = [1, 2]\n", "unknown key 'optim.lrr'"),
        ("[run]\nseed = [1, 2]\n", "run.seed cannot be searched"),
    ]:
        with naming(text):
            if text is not None:  # as it is in the first case, where there is no file
                file.write_text(text)
            with pytest.raises(FileError if "file" in message else UsageError) as caught:
                load_space(file)
            assert message in caught.value.message
            assert str(file) in caught.value.message
            assert "--search" not in caught.value.hint  # the mistake is in the file


def test_the_usual_space_of_every_recipe_holds_its_own_settings_and_only_values_that_exist() -> None:
    for name in recipe_names():
        with naming(name):
            config = configure(load_recipe(name))
            space = usual_space(config, given=(), images=10_000)
            default = default_values(space, config, {})
            assert default is not None
            layer = settings_with({**default, **({STRENGTH: 1.0} if STRENGTH in default else {})}, config.augment)
            again = configure(load_recipe(name), layer)
            assert (again.optim.peak_lr, again.augment) == (config.optim.peak_lr, config.augment)
            for dimension in space:
                assert parse_search([f"{dimension.setting}={dimension.text}"]) == [dimension]
                configure(
                    load_recipe(name), settings_with({dimension.setting: dimension.suggest(First())}, config.augment)
                )


def test_given_settings_are_not_searched() -> None:
    config = configure(load_recipe("digits"))
    names = [each.setting for each in usual_space(config, given=(), images=1000)]
    assert names == [
        *("optim.lr", "optim.adamw_lr", "optim.weight_decay", "optim.label_smoothing"),
        *("augment.strength", "optim.batch_size"),
    ]
    left = usual_space(config, given={"optim.lr", "augment.rotate"}, images=100)
    assert [each.setting for each in left] == [
        "optim.adamw_lr",
        "optim.weight_decay",
        "optim.label_smoothing",
        "optim.batch_size",
    ]
    assert left[-1] == Choices(setting="optim.batch_size", values=("64", "128"))


def test_the_default_may_be_outside_of_the_space() -> None:
    config = configure(load_recipe("digits"))
    assert default_values(parse_search(["optim.lr=0.1..0.2"]), config, {}) is None
    assert default_values(parse_search(["optim.lr=0.01..0.2", "optim.batch_size=64,128"]), config, {}) == {
        "optim.lr": 0.02,
        "optim.batch_size": "128",
    }
    assert default_values(parse_search(["model.num_heads=2,4"]), config, {"num_heads": 4}) == {"model.num_heads": "4"}


def test_the_strength_is_a_factor_on_all_changes_that_are_on() -> None:
    augment = AugmentConfig(
        rotate=10.0, crop_scale=0.4, crop_padding=4, flip=0.5, hue=0.4, policy="rand", policy_magnitude=20, mixup=0.2
    )
    assert settings_with({STRENGTH: 0.5, "augment.hue": 0.1}, augment) == {
        "augment": {
            "rotate": 5.0,
            "mixup": 0.1,
            "hue": 0.1,
            "crop_padding": 2,
            "crop_scale": 0.7,
            "policy_magnitude": 10,
        }
    }
    strong = augment.strengths(2)
    assert (strong["hue"], strong["policy_magnitude"], strong["crop_scale"]) == (0.5, 30, 0.08)
    assert "flip" not in strong
    assert AugmentConfig(flip=0.5, policy="trivial").strengths(2) == {}
    configure({"augment": {**augment.strengths(10)}})


def test_a_small_space_has_combinations_and_others_have_none() -> None:
    space = parse_search(["model.depth=1..3", "optim.ema=true,false"])
    found = combinations(space)
    assert len(found) == 6
    assert {"model.depth": 2, "optim.ema": "false"} in found
    assert combinations(parse_search(["optim.lr=0.1..0.2"])) == []
    assert combinations(parse_search(["optim.epochs=1..64"])) != []
    assert combinations(parse_search(["optim.epochs=1..65"])) == []
    assert combinations(parse_search(["optim.epochs=1..64", "model.depth=2,4"])) == []
