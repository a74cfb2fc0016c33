"""The command ``vit download``."""

import shlex
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vitcli.cli.console import listening, print_facts, print_json, print_rows, stderr, stdout
from vitcli.cli.options import DataDirOption, JsonOption, OfflineOption
from vitcli.core.errors import Interrupted

if TYPE_CHECKING:
    from vitcli.workflows.download import DownloadResult, WeightsResult


def download(
    name: Annotated[str, typer.Argument(help="A data set or pretrained weights.", show_default="list them all")] = "",
    data_dir: DataDirOption = "",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Download and verify a data set or pretrained weights; `vit train` then uses that data set by default."""
    if not name:
        _list(data_dir, as_json=as_json)
        return
    from vitcli.workflows.download import DownloadResult
    from vitcli.workflows.download import download as download_workflow

    try:
        with listening() as emit:
            result = download_workflow(name, directory=data_dir, offline=offline, emit=emit)
    except KeyboardInterrupt:
        again = f"`vit download {shlex.quote(name)}{_where(data_dir)}` continues it"
        raise Interrupted("stopped by Ctrl-C; what has arrived is kept", hint=again, exit_code=130) from None
    if as_json:
        print_json(result)
    elif isinstance(result, DownloadResult):
        _show_dataset(result, data_dir)
    else:
        _show_weights(result)


def _list(data_dir: str, *, as_json: bool) -> None:
    from vitcli.workflows.listings import list_downloads

    rows = list_downloads(data_dir)
    if as_json:
        print_json(rows)
        return
    columns = {"name": "name", "summary": "what", "size_mb": "MB", "licence": "licence"}
    print_rows([row for row in rows if row.kind == "data set"], {**columns, "present": "here"}, title="data sets")
    stdout().print()
    columns["summary"] = "from"
    print_rows(
        [row for row in rows if row.kind == "weights"], {**columns, "top1": "top-1", "present": "here"}, title="weights"
    )
    stderr().print("\nnext: [bold]vit download NAME[/]; kaggle:OWNER/NAME and hf:OWNER/NAME are names too")


def _where(data_dir: str) -> str:
    return f" --data-dir {shlex.quote(data_dir)}" if data_dir else ""


def _show_dataset(result: "DownloadResult", data_dir: str) -> None:
    print_facts(
        {
            "data set": f"{result.name}" + (", already there" if result.was_there else ""),
            "folder": str(result.directory),
            "images": ", ".join(f"{count:,} {split}" for split, count in result.images.items()),
            "classes": str(result.classes),
        }
    )
    stderr().print(f"\nnext: [bold]vit train{escape(_where(data_dir))}[/]")


def _show_weights(result: "WeightsResult") -> None:
    print_facts(
        {
            "weights": result.name + (", already there" if result.was_there else ""),
            "file": str(result.path),
            "licence": result.licence,
            "architecture": result.model,
        }
    )
    model = escape(shlex.quote(str(result.path) if "://" in result.name else result.name))
    stderr().print(
        f"\nnext: [bold]vit train PATH/TO/photos --init-from {model}[/]  fine-tunes them"
        f"\n      [bold]vit predict IMAGE --model {model}[/]"
    )
