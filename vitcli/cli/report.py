"""The command ``vit report``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from vitcli.cli.console import listening, print_facts, print_json, stderr
from vitcli.cli.options import (
    EXPERIMENTS,
    DataDirOption,
    DeviceOption,
    JsonOption,
    OfflineOption,
    OutputDirOption,
    new_file,
)
from vitcli.core.errors import counted
from vitcli.core.files import bytes_in_words
from vitcli.core.importing import importing
from vitcli.core.words import averaged, interval, percent

if TYPE_CHECKING:
    from vitcli.workflows.report import Report


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="Runs or groups to report on, or best (on the data of the newest).",
            show_default="newest finished run",
            metavar="RUN",
        ),
    ] = None,
    split: Annotated[
        Literal["auto", "train", "val", "test"], typer.Option("--split", help="auto: test if there is one, else val.")
    ] = "auto",
    card: Annotated[
        bool, typer.Option("--card", help="Write a model card for the Hugging Face hub instead of the page.")
    ] = False,
    worst: Annotated[
        int,
        typer.Option(
            "--worst", min=0, max=1000, help="Mistakes to show with attention maps, at most; others have pictures only."
        ),
    ] = 24,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="File to write.",
            show_default="report.html or README.md in the run",
            metavar="FILE",
            parser=new_file,
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images per batch.")] = 256,
    output_dir: OutputDirOption = EXPERIMENTS,
    data_dir: DataDirOption = "",
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a web page about runs that needs no network, or a model card.

    The page shows how a run was trained, its curves and scores, what is confused with what (a click opens the pictures),
    calibration, mistakes with attention maps (of 24, or --worst N), and several runs side by side.
    A run without a current evaluation is evaluated first.
    """
    from vitcli.trained.model_names import check_runs

    check_runs(runs or (), output_dir=output_dir, device=device)  # reports missing runs before torch is imported
    with importing():
        from vitcli.workflows.report import report as workflow
    with listening() as emit:
        result = workflow(
            *(runs or ()),
            split=split,
            output=output,
            card=card,
            worst=worst,
            output_dir=output_dir,
            directory=data_dir,
            device=device,
            batch_size=batch_size,
            offline=offline,
            emit=emit,
        )
    if as_json:
        print_json(result)
        return
    _show(result, worst, card=card)


def _show(result: "Report", worst: int, *, card: bool) -> None:
    """Print the score of each run, and the file."""
    from vitcli.workflows.report import MOST_WORST

    facts = {}
    for each in result.evaluations:
        maps = f"{counted(each.maps, 'map')} of {counted(each.mistakes, 'mistake')}"
        most = min(each.mistakes, MOST_WORST)
        more = f" (--worst {most} draws more)" if each.pictures and worst < most else ""
        shown = "" if card else f"; {counted(each.pictures, 'picture')}, {maps}{more}"
        images = f"{counted(each.images, 'image')} of {each.dataset}"
        images = f"out-of-fold predictions, {images}" if each.part == "out-of-fold" else f"{images}, {each.split} split"
        models = averaged(each.models)
        images += f", {models}" * bool(models)
        facts[each.run] = f"{percent(each.top1)}{interval(each.top1_interval)} of {images}{shown}"
    file = f"{result.file} ({bytes_in_words(result.size)})"
    print_facts({**facts, "model card" if card else "web page": file})
    if card:
        stderr().print(escape("read it before you publish it: it has the command with your paths"))
