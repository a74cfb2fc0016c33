"""Options that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A run, a file or folder of weights, a name of `vit download`, hf:OWNER/NAME, or an address.",
        show_default="newest finished run",
    ),
]
OfflineOption = Annotated[bool, typer.Option("--offline", help="Fetch nothing.")]
OutputDirOption = Annotated[Path, typer.Option("--output-dir", "-o", help="Folder of all runs.")]
DataDirOption = Annotated[
    str,
    typer.Option(
        "--data-dir", help="Where data sets are kept.", show_default="$VIT_DATA_DIR, else the user's cache folder"
    ),
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
    """An option about a folder of images."""
    return typer.Option(*names, help=help, rich_help_panel="Data", show_default=default or False)


LabelsOption = Annotated[
    str | None, _of_data("--labels", help="A CSV file, or a list, of image names and labels.", default="if found")
]
ImageColumnOption = Annotated[
    str | None, _of_data("--image-column", help="Its column of image names.", default="guessed")
]
LabelColumnOption = Annotated[str | None, _of_data("--label-column", help="Its column of labels.", default="guessed")]
LabelMapOption = Annotated[str | None, _of_data("--label-map", help="A JSON file from labels to class names.")]
OnBadImageOption = Annotated[
    str | None, _of_data("--on-bad-image", help="What unreadable images do: error or skip.", default="error")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        help="Image files, folders, or patterns such as 'photos/*.jpg'.", show_default=False, metavar="IMAGE"
    ),
]
EXPERIMENTS = Path("experiments")
