"""vit download"""

from typing import Annotated

import typer

from vitcli.cli.console import listening, print_facts, print_json, stderr
from vitcli.cli.options import DataDirOption, JsonOption


def download(
    name: Annotated[str, typer.Argument(help="A name of `vit datasets`.", show_default=False)],
    data_dir: DataDirOption = "",
    as_json: JsonOption = False,
) -> None:
    """Fetch and verify a data set; from then on `vit train` takes it by itself."""
    with listening() as emit:
        from vitcli.workflows.download import download as download_workflow

        result = download_workflow(name, directory=data_dir, emit=emit)
    if as_json:
        print_json(result)
        return
    print_facts(
        {
            "data set": f"{result.name}" + (", already there" if result.was_there else ""),
            "folder": str(result.directory),
            "images": ", ".join(f"{count:,} {split}" for split, count in result.images.items()),
            "classes": str(result.classes),
        }
    )
    stderr().print("\nnext: [bold]vit train[/]")
