"""Pages of the manual that are generated from the app itself."""

from collections.abc import Callable, Iterator
from inspect import signature
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from rich.text import Text
from typer import Context, Typer
from typer.models import OptionInfo

from vitcli.cli.app import app
from vitcli.cli.examples import EXAMPLES
from vitcli.core.config_files import load_recipe, recipe_names

GENERATED = "<!-- Generated: `VIT_NEW_REFERENCE=1 uv run pytest tests/test_docs.py` writes this page. -->\n"


def commands_page() -> str:
    """``docs/commands.md``: every command with its arguments, options and examples."""
    lines = [
        GENERATED,
        "# Commands",
        "",
        "`vit --help` lists the commands, and `vit COMMAND --help` the options of one of them. `vit --version` prints the version;",
        "`vit --install-completion` makes the Tab key complete commands and options.",
    ]
    for name, command in named_commands(app):
        assert command.__doc__
        lines += ["", f"## vit {name}", "", command.__doc__, ""]
        lines += ["```", *(f"{words:44} # {meaning}" for words, meaning in EXAMPLES[name]), "```"]
        for panel, rows in _panels(command).items():
            lines += ["", f"| {panel.lower()} | meaning | default |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def named_commands(of: Typer) -> Iterator[tuple[str, Callable[..., None]]]:
    """Every command of an app with its name, and the commands of its groups, as ``GROUP COMMAND``."""
    for entry in of.registered_commands:
        assert entry.callback
        yield entry.name or entry.callback.__name__, entry.callback
    for group in of.registered_groups:
        assert group.typer_instance
        assert group.typer_instance.registered_callback
        name, callback = group.typer_instance.info.name, group.typer_instance.registered_callback.callback
        assert isinstance(name, str)
        assert callback
        yield name, callback
        yield from ((f"{name} {each}", command) for each, command in named_commands(group.typer_instance))


def _panels(command: Callable[..., None]) -> dict[str, list[str]]:
    """Rows of tables, by the heading that ``--help`` has them under."""
    found: dict[str, list[str]] = {}
    for parameter in signature(command).parameters.values():
        if parameter.annotation is Context:
            continue
        kind, (info,) = parameter.annotation.__origin__, parameter.annotation.__metadata__
        is_option = isinstance(info, OptionInfo)
        value, default = info.metavar or _value(kind), info.show_default
        if default is True:
            is_none = parameter.default is None or parameter.default is False or parameter.default in ("", ())
            default = "" if is_none else f"`{parameter.default}`"
        # Where a default is given by ``=``, typer keeps the first name of an option where defaults usually are.
        names = [info.default, *(info.param_decls or ())] if is_option else [info.metavar or parameter.name.upper()]
        if is_option and value:
            names[0] += f" {value}"
        cells = (
            ", ".join(f"`{name}`" for name in names),
            "<br>".join(Text.from_markup(info.help or "").plain.split("\n\n")),
            default or "",
        )
        panel = info.rich_help_panel or ("Options" if is_option else "Arguments")
        found.setdefault(panel, []).append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |")
    return found


def _value(kind: Any) -> str:
    """What follows an option: nothing after a flag."""
    if get_origin(kind) in {Union, UnionType, list}:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return "|".join(get_args(kind))
    return {bool: "", int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}[kind]


def recipes_page() -> str:
    """``docs/recipes.md``: every recipe with its command, time and accuracy."""
    return "\n".join([GENERATED, *_RECIPES, *_recipes()]) + "\n"


_RECIPES = (
    "# Recipes",
    "",
    "A recipe is a file of settings that belong together. `vit train` chooses one, and its first line says which and why;",
    "`--recipe NAME` takes another one, and `--recipe ./FILE.toml` one of your own. `vit recipes` prints this list. Chosen is:",
    "",
    "- for `digits`, `shapes`, `mnist` and `fashion-mnist`, `cassava` and `butterflies`: the recipe of the data set (`mnist` for both);",
    "- for other data sets whose images all have one small size, such as CIFAR: `small-images`;",
    "- for other photos: `photos` on a GPU; `small-photos` on a CPU, or if their short side is below 128 pixels (median);",
    "- if training starts from weights: `finetune`, with `--freeze-backbone` `probe`, with `--lora` `lora`.",
    "",
    "Where no recipe is given, grey images of data sets that have no recipe of their own are not mirrored; `--set augment.flip=0.5` mirrors them.",
    "",
    "A recipe with `min_images` trains small data sets for more epochs, at most 300, unless `--epochs` is given.",
    "",
    "Recipes whose names end in `-classic` repeat the settings of a published tutorial, with its faults. The comment at the top of",
    "each file says what is still different, and whether the images it is judged on were held out; if not, `vit eval` says so too.",
    'Times were measured on two cores of a small cloud machine, unless they are "as published".',
    "",
    "| recipe | what | command | time | accuracy |",
    "|---|---|---|---|---|",
)


def _recipes() -> Iterator[str]:
    for name in recipe_names():
        about = load_recipe(name)["about"]
        yield f"| `{name}` | {about['summary']} | `{about['command']}` | {about['time']} | {about['accuracy']} |"
