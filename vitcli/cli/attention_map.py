"""vit attention-map"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vitcli.attention.registry import METHODS
from vitcli.cli.console import listening, percent, print_facts, print_json
from vitcli.cli.options import EXPERIMENTS, DeviceOption, ImagesArgument, JsonOption, ModelOption, OfflineOption
from vitcli.core.errors import UsageError


class Fusion(StrEnum):
    """How heads become one."""

    MEAN = "mean"
    MAX = "max"
    MIN = "min"


def attention_map(
    images: ImagesArgument,
    model: ModelOption = "",
    method: Annotated[
        str,
        typer.Option(
            "--method", help=" ".join(f"{name}: {entry.summary}." for name, entry in METHODS.items()), metavar="NAME"
        ),
    ] = "rollout",
    layers: Annotated[
        str, typer.Option("--layers", help="Layers to use, from 0: 3, 0,1,2 or -1.", show_default="the method's")
    ] = "",
    heads: Annotated[str, typer.Option("--heads", help="Heads to use, likewise.", show_default="all")] = "",
    head_fusion: Annotated[Fusion, typer.Option("--head-fusion", help="How heads become one.")] = Fusion.MEAN,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder, or a .png file for one image.", show_default="attention/ of the run"
        ),
    ] = None,
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Folder of all runs.")] = EXPERIMENTS,
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Draw where a model looks: image, overlay and colour bar, one PNG per image."""
    chosen_layers, chosen_heads = _numbers(layers, "--layers"), _numbers(heads, "--heads")
    with listening() as emit:
        from vitcli.workflows.attention_map import attention_map as attention_workflow

        maps = attention_workflow(
            images,
            model=model,
            method=method,
            layers=chosen_layers,
            heads=chosen_heads,
            head_fusion=head_fusion.value,
            output=output,
            output_dir=output_dir,
            device=device,
            offline=offline,
            emit=emit,
        )
    if as_json:
        print_json(maps)
        return
    for each in maps:
        sink = f", {percent(each.prefix_share)} of it on class and register tokens" if each.prefix_share else ""
        print_facts(
            {
                "image": str(each.path),
                "class": f"{each.predicted}, {percent(each.probability)}",
                "attention": f"{each.method}{sink}",
                "figure": str(each.figure),
            }
        )


def _numbers(text: str, option: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(
            f"{option} {text!r} is no list of whole numbers", hint=f"for example {option} 0,1,-1"
        ) from None
