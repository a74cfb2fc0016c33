"""vit eval"""

from enum import StrEnum
from typing import Annotated

import typer

from vitcli.cli.console import listening, percent, print_facts, print_json, stdout
from vitcli.cli.options import (
    EXPERIMENTS,
    DataDirOption,
    DeviceOption,
    ImageColumnOption,
    JsonOption,
    LabelColumnOption,
    LabelMapOption,
    LabelsOption,
    ModelOption,
    OfflineOption,
    OutputDirOption,
)

_TOP = 5
"""Among so few classes the right one is always in the top 5."""
_MOST_MATRIX = 12
"""Classes up to which the confusion matrix is printed whole."""


class Split(StrEnum):
    """What can be evaluated."""

    AUTO = "auto"
    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def evaluate(
    dataset: Annotated[
        str,
        typer.Argument(help="A data set or image folder.", show_default="the one it was trained on"),
    ] = "",
    model: ModelOption = "",
    split: Annotated[Split, typer.Option("--split", help="auto: test if there is one, else val.")] = Split.AUTO,
    labels: LabelsOption = None,
    image_column: ImageColumnOption = None,
    label_column: LabelColumnOption = None,
    label_map: LabelMapOption = None,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images per batch.")] = 256,
    output_dir: OutputDirOption = EXPERIMENTS,
    data_dir: DataDirOption = "",
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Judge a model on images that it has not seen: loss, accuracies, every class, confusion matrix."""
    asked = {"labels": labels, "image_column": image_column, "label_column": label_column, "label_map": label_map}
    with listening() as emit:
        from vitcli.workflows.evaluate import evaluate as evaluate_workflow

        result = evaluate_workflow(
            dataset=dataset,
            model=model,
            split=split.value,
            output_dir=output_dir,
            directory=data_dir,
            device=device,
            offline=offline,
            batch_size=batch_size,
            table={key: value for key, value in asked.items() if value is not None},
            emit=emit,
        )
    if as_json:
        print_json(result)
        return
    metrics = result.metrics
    facts = {
        "model": f"{result.model} ({result.checkpoint})",
        "data": f"{result.dataset}, {result.split} split, {metrics.images:,} images",
        "loss": f"{metrics.loss:.4f}",
        "top-1": percent(metrics.top1),
        **({"top-5": percent(metrics.top5)} if len(metrics.classes) > _TOP else {}),
        "macro F1": percent(metrics.macro_f1),
    }
    print_facts(facts)
    console = stdout()
    console.print("\n[bold]accuracy per class[/]")
    names = [each.name for each in metrics.classes]
    width = max(map(len, names))
    for each in metrics.classes:
        share = f"{100 * each.recall:5.1f} %" if each.images else f"{'-':>5}  "
        console.print(f"  {each.name:{width}} {share} ({each.correct:,}/{each.images:,})", markup=False)
    if len(names) <= _MOST_MATRIX:
        console.print("\n[bold]confusion matrix[/] (rows: true class, columns: predicted)")
        cell = max(len(str(metrics.images)), *(min(len(name), 8) for name in names)) + 1
        console.print(f"  {'':{width}}" + "".join(f"{name[:8]:>{cell}}" for name in names), markup=False)
        for name, row in zip(names, metrics.confusion, strict=True):
            cells = "".join(f"{count or '·':>{cell}}" for count in row)
            console.print(f"  {name:{width}}{cells}", markup=False)
    else:
        _print_confusions(names, metrics.confusion)
    if result.stored:
        console.print()
        print_facts({"stored": str(result.stored), "figure": str(result.figure)})


def _print_confusions(names: list[str], confusion: tuple[tuple[int, ...], ...]) -> None:
    """The ten most frequent mistakes."""
    mistakes = [
        (count, names[true], names[predicted])
        for true, row in enumerate(confusion)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    console = stdout()
    console.print("\n[bold]most frequent mistakes[/]")
    for count, true, predicted in sorted(mistakes, reverse=True)[:10]:
        console.print(f"  {count:4} x {true} taken for {predicted}", markup=False)
