"""Options that several commands share."""

import os
import shlex
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperCommand, TyperGroup

from vitcli.cli.console import stderr
from vitcli.core.errors import UsageError
from vitcli.core.files import expanded

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A run, best (on the data of the newest), a file or folder of weights, a name of `vit download`, hf:OWNER/NAME, or an address.",
        show_default="newest finished run",
    ),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Download nothing.")]
OutputDirOption = Annotated[Path, typer.Option("--output-dir", help="Folder of all runs.")]
DataDirOption = Annotated[
    str,
    typer.Option("--data-dir", help="Folder of data sets.", show_default="$VIT_DATA_DIR, else the user's cache folder"),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N (or only N) or mps.")]
DatasetArgument = Annotated[
    str | None,
    typer.Argument(
        help="A name of `vit datasets`, a folder of images, or kaggle:OWNER/NAME.",
        show_default="the data set downloaded last, else digits",
    ),
]


def _of_data(*names: str, help: str, default: str = "") -> Any:  # noqa: A002 - typer's name
    """Make an option about a folder of images."""
    return typer.Option(*names, help=help, rich_help_panel="Data", show_default=default or False)


LabelsOption = Annotated[
    str | None, _of_data("--labels", help="A CSV file, or a list, of image names and labels.", default="if found")
]
ImageColumnOption = Annotated[
    str | None, _of_data("--image-column", help="Column of image names in the labels file.", default="guessed")
]
LabelColumnOption = Annotated[
    str | None, _of_data("--label-column", help="Column of labels in the labels file.", default="guessed")
]
LabelMapOption = Annotated[str | None, _of_data("--label-map", help="A JSON file that maps labels to class names.")]
OnBadImageOption = Annotated[
    str | None, _of_data("--on-bad-image", help="Action on unreadable images: error or skip.", default="error")
]
ValFractionOption = Annotated[
    float | None, _of_data("--val-fraction", help="Share held out for validation if there is no such split.")
]
TestFractionOption = Annotated[
    float | None, _of_data("--test-fraction", help="Share held out for testing if there are no splits; 0: none.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result, or the error, as JSON.")]
ImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Image files, folders, or patterns such as 'photos/*.jpg'.", show_default=False, metavar="IMAGE"
    ),
]
EXPERIMENTS = Path("experiments")


def new_file(name: str) -> Path:
    """Return the path of a file to write; refuse a name with a slash at its end, because it is that of a folder."""
    if name.endswith(("/", os.sep)):
        hint = f"leave out the slash: {shlex.quote(name.rstrip('/' + os.sep) or 'results.csv')}"
        raise UsageError(f"{name} is the name of a folder, not of a file", hint=hint)
    return expanded(name)


class _FormerOutputDir:
    """A command in which ``-o`` was once the folder of all runs, and still is if it cannot be the output."""

    params: list[Any]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words; ``-o`` with a folder of runs becomes ``--output-dir``, and the new spelling is said."""
        has_output = any("-o" in parameter.opts for parameter in self.params)
        words = list(args)
        last = {"--", *getattr(self, "commands", ())}  # after the name of a subcommand, words are its own
        for at, word in enumerate(takewhile(lambda word: word not in last, args)):
            folder = word[2:] or "".join(args[at + 1 : at + 2])
            is_file = Path(folder).suffix and not has_output and not expanded(folder).is_dir()
            if word[:2] == "-o" and is_file and not ctx.resilient_parsing:
                raise UsageError(
                    f"-o {folder}: {ctx.command_path} writes no such file",
                    hint=f"in place of -o, `--json > {shlex.quote(folder)}` writes the result to it, and"
                    f" --output-dir {shlex.quote(folder)} makes it the folder of runs",
                )
            if word[:2] == "-o" and folder and (not has_output or _holds_runs(expanded(folder))):
                words[at] = f"--output-dir={word[2:]}" if word[2:] else "--output-dir"
                if not ctx.resilient_parsing:
                    stderr().print(
                        f"-o is where output goes: write --output-dir {escape(folder)} for the folder of runs"
                    )
        parsed: list[str] = super().parse_args(ctx, words)  # type: ignore[misc] # of the class beside this one
        return parsed


class RunsCommand(_FormerOutputDir, TyperCommand):
    """A command that reads or makes runs."""


class RunsGroup(_FormerOutputDir, TyperGroup):
    """A command that reads runs, and has subcommands."""


def _holds_runs(folder: Path) -> bool:
    return any(any(folder.glob(pattern)) for pattern in ("*/run.json", "*/fold-*/run.json", "*/seed-*/run.json"))
