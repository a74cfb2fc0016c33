"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

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
OutputDirOption = Annotated[Path, typer.Option("--output-dir", "-o", help="Folder of all runs.")]
DataDirOption = Annotated[
    str,
    typer.Option("--data-dir", help="Folder of data sets.", show_default="$VIT_DATA_DIR, else the user's cache folder"),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Image files, folders, or patterns such as 'photos/*.jpg'.", show_default=False, metavar="IMAGE"
    ),
]
EXPERIMENTS = Path("experiments")
