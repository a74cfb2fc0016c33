"""The commands ``vit models``, ``vit datasets`` and ``vit recipes``, which print lists."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vitcli.cli.console import print_facts, print_json, print_rows, stderr, stdout
from vitcli.cli.options import DataDirOption, JsonOption
from vitcli.cli.wrapping import wrapped

if TYPE_CHECKING:
    from vitcli.core.config_files import Setting


def models(as_json: JsonOption = False) -> None:
    """List the architectures."""
    from vitcli.workflows.listings import list_models

    rows = list_models()
    if as_json:
        print_json(rows)
        return
    print_rows(
        rows,
        {
            "name": "model",
            "parameters": "parameters",
            "image_size": "image",
            "classes": "classes",
            "patch_size": "patch",
            "width": "width",
            "depth": "depth",
            "heads": "heads",
        },
    )
    note = (
        "Parameters are counted for these classes and 3 channels (vit-mnist-classic: 1), and if the image is - (of any"
        " size), for 28 x 28 pixels, or 48 x 48 where the patch is 6. A recipe may change the"
        " model: `vit recipes NAME` shows its settings."
    )
    stdout().print(f"\n{wrapped(note, stdout().width)}", soft_wrap=True)


def datasets(data_dir: DataDirOption = "", as_json: JsonOption = False) -> None:
    """List the data sets that have a name; any folder of images can be used too."""
    from vitcli.workflows.listings import list_datasets

    rows = list_datasets(data_dir)
    if as_json:
        print_json(rows)
        return
    print_rows(
        rows,
        {
            "name": "data set",
            "summary": "what",
            "classes": "classes",
            "train_images": "train",
            "test_images": "test",
            "image_size": "size",
            "download_mb": "MB",
            "present": "here",
        },
    )


def recipes(
    name: Annotated[str, typer.Argument(help="Show the settings of this recipe.", show_default=False)] = "",
    as_json: JsonOption = False,
) -> None:
    """List the recipes with their purpose, training time and accuracy, or show the settings of one."""
    from vitcli.workflows.listings import list_recipes, recipe_settings

    if name:
        settings = recipe_settings(name)
        print_json(settings) if as_json else _show_settings(name, settings)
        return
    rows = list_recipes()
    if as_json:
        print_json(rows)
        return
    for row in rows:
        facts = {"recipe": row.name, "what": row.summary, "command": row.command}
        print_facts({**facts, "time": row.time, "accuracy": row.accuracy})
        stdout().print()


def _show_settings(recipe: str, settings: "dict[str, dict[str, Setting]]") -> None:
    """Print settings as TOML; those that have their default value are comments."""
    for section, table in settings.items():
        stdout().print(f"[bold]{escape(f'[{section}]')}[/]", highlight=False)
        for key, setting in table.items():
            is_name = (section, key) == ("run", "recipe")  # else another recipe would lie below the file
            value = json.dumps(
                recipe if is_name else setting.value
            )  # is TOML too for text, numbers, booleans and lists
            line, is_default = escape(f"{key} = {value}"), setting.source == "default" and not is_name
            stdout().print(f"[dim]# {line}[/]" if is_default else line, soft_wrap=True)
        stdout().print()
    copy = "copy.toml" if Path(recipe).name == "my.toml" else "my.toml"  # else the shell would empty what is to be read
    stderr().print(
        f"lines that begin with # have the default; `vit recipes {escape(shlex.quote(recipe))} > {copy}` makes a file to"
        f" edit, for `vit train --config {copy}`"
    )
