"""The table of the options of ``vit train``."""

from dataclasses import fields

from vitcli.cli.train_options import ROWS, settings_in
from vitcli.core.config import TrainConfig
from vitcli.core.model_config import ModelChoice, ModelConfig


def test_every_row_names_a_setting_or_what_the_command_does() -> None:
    sections = {field.name: ModelConfig if field.type is ModelChoice else field.type for field in fields(TrainConfig)}
    known = {f"{name}.{field.name}" for name, section in sections.items() for field in fields(section)}  # type: ignore[arg-type]
    assert {row.setting for row in ROWS} - {""} <= known
    assert {row.parameter for row in ROWS if not row.setting} == {
        *("config", "assignments", "resume", "from_run", "dry_run", "find_lr", "as_json")
    }


def test_what_is_empty_is_given_too() -> None:
    """So that it undoes what a recipe or a file says, or is refused."""
    given = {row.parameter: row.otherwise for row in ROWS}
    assert settings_in({**given, "train_only": "", "model": ""}) == {
        "data": {"dir": None},
        "optim": {"train_only": ""},
        "model": {"name": ""},
    }


def test_no_two_rows_share_a_parameter() -> None:
    parameters = [row.parameter for row in ROWS]
    assert len(set(parameters)) == len(parameters)
