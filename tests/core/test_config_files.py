import json
import math
import re
import shlex
import string
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.builders.processes import COMMAND
from tests.conftest import naming
from vitcli.core.config import DataConfig, TrainConfig
from vitcli.core.config_files import (
    configure,
    layers_of,
    load_config_file,
    load_recipe,
    parse_assignments,
    recipe_file,
    recipe_names,
    resolved,
    settings_of,
)
from vitcli.core.errors import FileError, UsageError
from vitcli.core.model_config import ModelConfig
from vitcli.core.optim_config import USUAL_LR, OptimConfig
from vitcli.data.registry import DATASETS
from vitcli.data.store import data_dir, preview_of
from vitcli.models.registry import MODELS


def test_without_settings_everything_has_its_default() -> None:
    assert configure() == TrainConfig()


def test_defaults_lie_below_recipe_below_file_below_flags(tmp_path: Path) -> None:
    recipe = {"optim": {"epochs": 2, "batch_size": 2, "lr": 0.2}}
    file = tmp_path / "mine.toml"
    file.write_text("[optim]\nbatch_size = 3\nlr = 0.3\n")
    flags = {"optim": {"lr": 0.4}}
    optim = configure(recipe, load_config_file(file), flags).optim
    assert (optim.epochs, optim.batch_size, optim.lr) == (2, 3, 0.4)
    assert optim.optimizer == OptimConfig().optimizer


def test_a_layer_changes_only_what_it_names() -> None:
    config = configure({"model": {"name": "vit-nano-patch2", "depth": 2}}, {"model": {"depth": 3}})
    assert config.model.name == "vit-nano-patch2"
    assert config.model.changes == {"depth": 3}


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    for settings, wrong, nearest in [
        ({"optimm": {"lr": 1}}, "section 'optimm'", "'optim'"),
        ({"optim": {"learnin_rate": 1}}, "key 'optim.learnin_rate'", "did you mean"),
        ({"optim": {"epoch": 1}}, "key 'optim.epoch'", "'optim.epochs'"),
        ({"model": {"widht": 1}}, "key 'model.widht'", "'model.width'"),
        ({"data": {"resize": "croq"}}, "data.resize = 'croq'", "'crop'"),
        ({"optim": {"optimizer": "adamm"}}, "optim.optimizer = 'adamm'", "'adam"),
        ({"model": {"pooling": "clas"}}, "model.pooling = 'clas'", "'class'"),
    ]:
        with naming(settings):
            with pytest.raises(UsageError) as caught:
                configure(settings)
            assert wrong in caught.value.message
            assert nearest in caught.value.hint


def test_an_unknown_recipe_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="'digit'") as caught:
        load_recipe("digit")
    assert "'digits'" in caught.value.hint


def test_a_recipe_may_be_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text('[about]\nsummary = "mine"\n[optim]\nlr = 0.3\n')
    monkeypatch.chdir(tmp_path)
    for name in ("mine.toml", "./mine.toml", str(tmp_path / "mine.toml")):
        recipe = load_recipe(name)
        assert recipe["about"] == {"summary": "mine", "source": f"recipe {name}"}
        assert configure(recipe).optim.lr == 0.3
        assert recipe_file(name) == tmp_path / "mine.toml"
    assert recipe_file("digits") is None
    with pytest.raises(FileError, match=r"no such recipe file: .*lost\.toml") as caught:
        load_recipe("lost.toml")
    assert "--recipe a name of `vit recipes` or a TOML file" in caught.value.hint


def test_a_literal_far_from_all_others_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match="one of auto, crop, squash"):
        configure({"data": {"resize": "zzz"}})


def test_a_section_must_be_a_table() -> None:
    with pytest.raises(UsageError, match="optim = 3 is not a section") as caught:
        configure({"optim": 3})  # type: ignore[dict-item]
    assert "[optim]" in caught.value.hint


def test_the_about_table_is_for_readers_only() -> None:
    assert configure({"about": {"summary": "anything"}}) == TrainConfig()


def test_values_become_the_kind_that_is_wanted_where_nothing_is_lost() -> None:
    for section, key, value, stored in [
        ("optim", "lr", 1, 1.0),
        ("optim", "epochs", 3.0, 3),
        ("optim", "betas", [0.8, 0.9], (0.8, 0.9)),
        ("optim", "betas", "0.8x0.9", (0.8, 0.9)),
        ("optim", "ema", True, True),
        ("augment", "crop_ratio", [1, 1], (1.0, 1.0)),
        ("run", "name", 7, "7"),
    ]:
        with naming(section, key, value):
            config = getattr(configure({section: {key: value}}), section)
            assert getattr(config, key) == stored
            assert type(getattr(config, key)) is type(stored)


def test_values_of_another_kind_are_refused() -> None:
    for section, key, value, wanted in [
        ("optim", "epochs", 2.5, "a whole number"),
        ("optim", "epochs", True, "a whole number"),
        ("optim", "epochs", "many", "a whole number"),
        ("optim", "epochs", math.inf, "a whole number"),
        ("optim", "lr", "high", "a number"),
        ("optim", "lr", False, "a number"),
        ("optim", "betas", 0.9, "two numbers"),
        ("optim", "ema", 1, "true or false"),
        ("optim", "ema", "true", "true or false"),
        ("run", "name", True, "text"),
        ("run", "name", ["a"], "text"),
    ]:
        with naming(section, key, value):
            with pytest.raises(UsageError) as caught:
                configure({section: {key: value}})
            assert caught.value.message == f"{section}.{key} = {value!r} is not {wanted}"


def test_a_pair_is_one_number_two_or_height_x_width() -> None:
    for value, pair in [
        (32, (32, 32)),
        ("32", (32, 32)),
        ("32x48", (32, 48)),
        ("32X48", (32, 48)),
        ([32, 48], (32, 48)),
    ]:
        assert configure({"model": {"image_size": value}}).model.changes["image_size"] == pair, value


def test_what_is_no_pair_is_refused() -> None:
    for value in ["32x48x3", [1, 2, 3], [], "", "x", "32x", "axb", 32.5, True, [None, 1]]:
        with naming(value), pytest.raises(UsageError, match=r"model\.image_size"):
            configure({"model": {"image_size": value}})


def test_values_out_of_range_are_named() -> None:
    for section, values in [
        ("data", {"val_fraction": 0}),
        ("data", {"test_fraction": 1.0}),
        ("data", {"crop_fraction": 1.5}),
        ("data", {"workers": -1}),
        ("augment", {"flip": 2}),
        ("augment", {"mixup": -1}),
        ("augment", {"crop_ratio": [2, 1]}),
        ("optim", {"lr": math.nan}),
        ("optim", {"lr": math.inf}),
        ("optim", {"lr": -1}),
        ("optim", {"epochs": 0}),
        ("optim", {"momentum": 1.0}),
        ("optim", {"betas": [0.9, 1.0]}),
        ("run", {"seed": -1}),
        ("run", {"save_every": -1}),
    ]:
        with naming(section, values):
            with pytest.raises(UsageError) as caught:
                configure({section: values})
            last = next(reversed(values.values()))
            numbers = last if isinstance(last, list) else [last]
            assert all(f"{number:g}" in caught.value.message for number in numbers)


def test_paths_and_numbers_of_numpy_and_torch_are_text_and_numbers() -> None:
    settings = {"data": {"name": Path("photos")}, "optim": {"lr": np.float32(0.5), "epochs": torch.tensor(3)}}
    config = configure(settings)
    assert (config.data.name, config.optim.lr, config.optim.epochs) == ("photos", 0.5, 3)
    assert type(config.optim.lr) is float
    with pytest.raises(UsageError, match=r"optim\.lr = array\(\[1\]\) is not a number"):
        configure({"optim": {"lr": np.array([1])}})


@given(value=st.integers(0, 2**63 - 1))
def test_whole_numbers_survive_an_assignment(value: int) -> None:
    assert configure(parse_assignments([f"run.seed={value}"])).run.seed == value


@given(value=st.floats(min_value=0, exclude_min=True, max_value=1e38))
def test_numbers_survive_an_assignment(value: float) -> None:
    parsed = configure(parse_assignments([f"optim.lr={value!r}"])).optim.lr
    assert isinstance(parsed, float)
    assert parsed == value


@given(value=st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters='"\\')))
def test_quoted_text_survives_an_assignment(value: str) -> None:
    assert configure(parse_assignments([f'data.name="{value}"'])).data.name == value


LETTERS = string.ascii_letters
BARE_WORDS = st.builds(  # as of the pattern [A-Za-z~/.][A-Za-z0-9_/. #=-]*[a-z], which Hypothesis reads slowly
    "".join,
    st.tuples(
        st.sampled_from(f"{LETTERS}~/."),
        st.text(f"{LETTERS}{string.digits}_/. #=-"),
        st.sampled_from(string.ascii_lowercase),
    ),
)


@given(value=BARE_WORDS)
def test_a_bare_word_is_text(value: str) -> None:
    if value in {"true", "false", "inf", "nan"}:
        return
    assert parse_assignments([f"data.name={value}"]) == {"data": {"name": value}}


def test_text_that_looks_like_another_toml_value_arrives_as_it_was_typed() -> None:
    """A run may be named after a date or a number; ``--name`` takes these as they are, so ``--set`` must too."""
    for value in ["2026-11-03", "7#2", "1e3"]:
        assert configure(parse_assignments([f"run.name={value}"])).run.name == value, value


def test_assignments_of_one_section_are_gathered() -> None:
    words = ["optim.lr=0.5", "model.depth = 2", "optim.ema=true", "optim.lr=0.6", "optim.betas=[0.8, 0.9]"]
    config = configure(parse_assignments(words))
    assert (config.optim.lr, config.optim.ema, config.optim.betas) == (0.6, True, (0.8, 0.9))
    assert config.model.changes == {"depth": 2}


def test_an_assignment_of_another_form_is_refused_with_an_example() -> None:
    for word in ["", "lr", "wasp=1", "optim.lr", ".lr=1", "optim.=1", "=1"]:
        with naming(word):
            with pytest.raises(UsageError, match=r"section\.key=value") as caught:
                parse_assignments([word])
            assert repr(word) in caught.value.message
            assert "--set optim.lr=0.01" in caught.value.hint


def test_a_config_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"absent\.toml"):
        load_config_file(tmp_path / "absent.toml")


def test_a_config_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    for content in [b"[optim", b"lr = ", b"\xff\xfe", b"a = 1\na = 2"]:
        path.write_bytes(content)
        with naming(content), pytest.raises(FileError, match=r"broken\.toml is not a TOML file"):
            load_config_file(path)


def test_a_file_of_an_editor_that_marks_utf_8_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b'\xef\xbb\xbfabout = "mine"\n[optim]\nlr = 0.5\n')
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    assert (recipe["optim"], recipe["about"]) == ({"lr": 0.5}, {"source": f"recipe {tmp_path}/mine.toml"})


def test_there_are_recipes() -> None:
    assert "digits" in recipe_names()


def test_a_recipe_configures_and_its_settings_survive_a_round_trip() -> None:
    for name in recipe_names():
        with naming(name):
            config = configure(load_recipe(name))
            settings = settings_of(config)
            assert configure(settings) == config
            assert configure(json.loads(json.dumps(settings))) == config
            assert set(settings) == {section.name for section in fields(TrainConfig)}


def test_a_recipe_names_a_model_and_data_that_exist() -> None:
    for name in recipe_names():
        with naming(name):
            config = configure(load_recipe(name))
            assert config.model.name in MODELS
            assert not config.data.name or config.data.name in DATASETS
            assert config.data.folds == config.data.fold == 0  # only what a user gives starts one run per fold


def test_a_recipe_says_what_it_is_for_how_to_run_it_and_what_it_reaches() -> None:
    for name in recipe_names():
        with naming(name):
            about = load_recipe(name).get("about", {})
            assert set(about) == {"summary", "command", "time", "accuracy", "source"}
            assert about["source"] == f"recipe {name}"
            assert all(isinstance(text, str) and text.strip() for text in about.values())


MEASURED = {"digits": "bundled digits", "mnist": "MNIST", "small-images": "CIFAR-10, `--recipe small-images`"}
"""The beginning of a row in the manual's table of measurements."""


def test_a_recipe_and_the_manual_say_the_same_of_its_accuracy_and_its_time() -> None:
    rows = Path(__file__).parents[2].joinpath("docs", "measured.md").read_text(encoding="utf-8").splitlines()
    for name, beginning in MEASURED.items():
        with naming(name):
            (figure,) = [row.split("|")[2] for row in rows if row.startswith(f"| {beginning}")]
            about = load_recipe(name)["about"]
            percents, times = r"\d+\.\d+ %", r"(?:\d+ min )?\d+ s\b"
            assert re.findall(percents, about["accuracy"]) == re.findall(percents, figure) != []
            assert re.findall(times, about["time"]) == re.findall(times, figure) != []


def test_the_command_of_a_recipe_is_one() -> None:
    for name in recipe_names():
        with naming(name):
            program, command, *words = shlex.split(load_recipe(name)["about"].get("command", "- -"))
            assert (program, command) == ("vit", "train")
            group: Any = COMMAND
            parameters = group.commands[command].make_context(command, words).params
            recipe = parameters["recipe"]
            dataset = parameters["dataset"]
            if parameters["init_from"] and recipe is None:
                is_probe, is_lora = parameters["freeze_backbone"], parameters["lora"]
                recipe = "probe" if is_probe else "lora" if is_lora else "finetune"
            assert recipe == name or (recipe is None and dataset in DATASETS and DATASETS[dataset].recipe == name)


def test_the_recipe_of_a_data_set_exists() -> None:
    known = {"", *recipe_names()}
    assert [name for name, entry in DATASETS.items() if entry.recipe not in known] == []


def test_the_recipes_of_image_folders_exist() -> None:
    assert {"small-images", "small-photos", "photos"} <= {*recipe_names()}


def test_model_settings_are_kept_as_changes_of_a_registry_entry() -> None:
    config = configure({"model": {"name": "vit-tiny-patch16", "image_size": "32x48", "drop_path": 0}})
    assert settings_of(config)["model"] == {"name": "vit-tiny-patch16", "image_size": (32, 48), "drop_path": 0.0}


def test_the_command_that_draws_the_images_names_their_table() -> None:
    data = configure({"data": {"name": "my photos", "labels": "a.csv", "image_column": "file", "dir": "sets"}}).data
    assert preview_of(data) == "vit preview 'my photos' --labels a.csv --image-column file --data-dir sets"
    assert preview_of(DataConfig(dir=str(data_dir()))) == "vit preview"


def test_another_model_than_the_recipes_comes_without_the_recipes_changes_to_its_own() -> None:
    recipe = {"model": {"name": "vit-nano-patch2", "depth": 2}}
    assert configure(recipe, {"model": {"name": "vit-tiny-patch16"}}).model.changes == {}
    assert configure(recipe, {"model": {"name": "vit-nano-patch2"}}).model.changes == {"depth": 2}
    assert configure(recipe, {"model": {"num_registers": 1}}).model.changes == {"depth": 2, "num_registers": 1}


def test_settings_of_a_layer_that_names_no_model_hold_for_any() -> None:
    layers = {"model": {"depth": 3}}, {"model": {"name": "vit-tiny-patch16", "num_registers": 1}}
    assert configure(*layers).model.changes == {"depth": 3, "num_registers": 1}


@pytest.mark.parametrize("name", recipe_names())
def test_every_model_can_be_asked_for_above_every_recipe(name: str) -> None:
    for model in MODELS:
        changes = configure(load_recipe(name), {"model": {"name": model}}).model.changes
        config = ModelConfig(**{"image_size": (168, 168), **MODELS[model], **changes, "name": model})
        if load_recipe(name).get("model", {}).get("name", model) != model:
            assert config == ModelConfig(**{"image_size": (168, 168), **MODELS[model], "name": model})


def test_another_optimizer_than_the_recipes_comes_with_its_own_usual_rate() -> None:
    recipe = {"optim": {"optimizer": "muon", "lr": 0.02, "epochs": 3}}
    assert configure(recipe, {"optim": {"optimizer": "adamw"}}).optim.peak_lr == USUAL_LR["adamw"]
    assert configure(recipe, {"optim": {"optimizer": "adamw", "lr": 0.1}}).optim.peak_lr == 0.1
    assert configure(recipe, {"optim": {"lr": 0.1}}).optim.peak_lr == 0.1
    assert configure(recipe, {"optim": {"optimizer": "adamw"}}).optim.epochs == 3


def test_every_setting_has_the_name_of_its_source(tmp_path: Path) -> None:
    (tmp_path / "my.toml").write_text("[optim]\nlr = 0.3\nbatch_size = 3\n")
    given = {"optim": {"lr": 0.4}, "model": {"name": "vit-tiny-patch16"}}
    layers = [load_recipe("digits"), *layers_of(given, config=tmp_path / "my.toml")]
    settings = resolved(configure(*layers, {"run": {"device": "cpu"}}), layers)
    said = {name: settings["optim"][name] for name in ("lr", "batch_size", "epochs", "momentum")}
    assert [(each.value, each.source) for each in said.values()] == [
        (0.4, "given"),
        (3, f"--config {tmp_path / 'my.toml'}"),
        (60, "recipe digits"),
        (0.9, "default"),
    ]
    assert settings["run"]["device"].source == "chosen"
    assert {key: setting.source for key, setting in settings["model"].items()} == {"name": "given"}
