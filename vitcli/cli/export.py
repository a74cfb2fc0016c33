"""The command ``vit export``."""

from pathlib import Path
from typing import Annotated

import typer

from vitcli.cli.console import listening, print_facts, print_json
from vitcli.cli.options import EXPERIMENTS, JsonOption, OfflineOption, OutputDirOption
from vitcli.core.importing import importing


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A run, a file of weights, or a name of `vit download`.", show_default="newest finished run"
        ),
    ] = "",
    format: Annotated[str, typer.Option("--format", "-f", help="onnx, torchscript, timm or transformers.")] = "onnx",  # noqa: A002
    output: Annotated[
        Path | None, typer.Option("--output", help="The file or folder to write.", show_default="in the run")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file or folder.")] = False,
    output_dir: OutputDirOption = EXPERIMENTS,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a model to another library, and check there that its logits are the same."""
    from vitcli.models.export.registry import EXPORTS
    from vitcli.trained.model_names import check_model

    EXPORTS[format]  # reports an unknown format before torch is imported
    check_model(model, output_dir=output_dir)
    with importing():
        from vitcli.workflows.export import export as export_workflow
    with listening() as emit:
        result = export_workflow(
            model,
            format=format,
            output=output,
            output_dir=output_dir,
            overwrite=overwrite,
            offline=offline,
            emit=emit,
        )
    if as_json:
        print_json(result)
        return
    print_facts(
        {
            "model": result.model,
            "format": result.format,
            "written": str(result.path),
            "checked": f"logits differ by {result.max_difference:.1e} at most",
        }
    )
