"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

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
OfflineOption = Annotated[bool, typer.Option("--offline", help="Fetch no weights.")]
OutputDirOption = Annotated[Path, typer.Option("--output-dir", "-o", help="Folder of all runs.")]
DataDirOption = Annotated[
    str,
    typer.Option(
        "--data-dir", help="Where data sets are kept.", show_default="$VIT_DATA_DIR, else the user's cache folder"
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
ImagesArgument = Annotated[
    list[str],
    typer.Argument(
        help="Image files, folders, or patterns such as 'photos/*.jpg'.", show_default=False, metavar="IMAGE"
    ),
]
EXPERIMENTS = Path("experiments")
