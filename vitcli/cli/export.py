"""The command ``vit export``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitcli.cli.console import listening, print_facts, print_json
from vitcli.cli.options import EXPERIMENTS, JsonOption, ModelOption, OfflineOption, OutputDirOption
from vitcli.core.errors import UsageError, counted
from vitcli.core.importing import importing

if TYPE_CHECKING:
    from vitcli.workflows.export import ExportResult


def export(
    model: Annotated[
        str,
        typer.Argument(
            help="A run, best (on the data of the newest), a file of weights, or a name of `vit download`.",
            show_default="newest finished run",
        ),
    ] = "",
    named: ModelOption = "",
    format: Annotated[str, typer.Option("--format", "-f", help="onnx, torchscript, timm or transformers.")] = "onnx",  # noqa: A002
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file or folder to write.", show_default="in the run")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file or folder.")] = False,
    output_dir: OutputDirOption = EXPERIMENTS,
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Export a model to another library, and check there that logits and preprocessing are the same."""
    from vitcli.models.export.registry import EXPORTS
    from vitcli.trained.model_names import check_model

    if model and named:
        raise UsageError(
            f"{model} and --model {named} both name the model: leave out one of them",
            hint=f"vit export {shlex.quote(named)}",
        )
    model = model or named
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
            "checked": result.logits_in_words(),
            **({} if result.input_difference is None else {"preprocessing": _preprocessing(result)}),
        }
    )


def _preprocessing(result: "ExportResult") -> str:
    shifted = f", after a shift by {counted(result.input_shift, 'pixel')}" if result.input_shift else ""
    if not result.input_difference:
        return f"two photos give the same inputs{shifted}"
    return f"inputs of two photos differ by {result.input_difference:.2g} of 255 grey levels on average{shifted}"
