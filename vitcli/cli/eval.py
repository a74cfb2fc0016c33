"""The command ``vit eval``."""

from typing import Annotated, Literal

import typer
from rich.cells import cell_len

from vitcli.cli.console import listening, print_facts, print_json, print_table, stdout
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
from vitcli.cli.words import percent
from vitcli.core.importing import importing

_TOP = 5
"""Number of classes up to which top-5 accuracy is not shown, because it is always 100 %."""
_MOST_MATRIX = 10
"""Number of classes up to which the confusion matrix is printed completely, because it fits into 80 columns."""

Confusion = tuple[tuple[int, int, int], ...]
"""True class, predicted class and number of images, without zeros."""


def evaluate(
    dataset: Annotated[
        str,
        typer.Argument(help="A data set or image folder.", show_default="the one it was trained on"),
    ] = "",
    model: ModelOption = "",
    split: Annotated[
        Literal["auto", "train", "val", "test"], typer.Option("--split", help="auto: test if there is one, else val.")
    ] = "auto",
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
    """Evaluate a model on images that it has not seen: loss, accuracies, accuracy per class, confusion matrix."""
    asked = {"labels": labels, "image_column": image_column, "label_column": label_column, "label_map": label_map}
    from vitcli.data.store import check_dataset
    from vitcli.trained.model_names import check_models

    check_models(model, output_dir=output_dir, device=device)  # reports missing models before torch is imported
    check_dataset(dataset, labels=labels or "")

    # Evaluate
    with importing():
        from vitcli.workflows.evaluate import evaluate as evaluate_workflow
    with listening() as emit:
        result = evaluate_workflow(
            dataset=dataset,
            model=model,
            split=split,
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

    # Show the numbers, then the classes, then the confusion matrix or the most frequent mistakes
    metrics = result.metrics
    facts = {
        "model": f"{result.model} ({result.checkpoint})"
        if result.models == 1
        else f"the mean of {result.models} models: {result.model}",
        "data": f"{result.dataset}, {result.split} split, {metrics.images:,} images"
        + (" (not held out)" if result.held_out is False else ""),
        "loss": f"{metrics.loss:.4f}",
        "top-1": percent(metrics.top1),
        **({"top-5": percent(metrics.top5)} if len(metrics.classes) > _TOP else {}),
        "macro F1": percent(metrics.macro_f1),
    }
    print_facts(facts)
    console = stdout()
    console.print("\n[bold]accuracy per class[/]")
    rows = [
        (each.name, percent(each.recall) if each.images else "-", f"{each.correct:,}", f"{each.images:,}")
        for each in metrics.classes
    ]
    print_table(("class", "accuracy", "right", "images"), rows, numbers={1, 2, 3})
    names = [each.name for each in metrics.classes]
    if len(names) <= _MOST_MATRIX:
        console.print("\n[bold]confusion matrix[/] (rows: true class, columns: predicted)")
        _print_matrix(names, metrics.confusion)
    else:
        console.print("\n[bold]most frequent mistakes[/]")
        _print_mistakes(names, metrics.confusion)
    if result.stored:
        console.print()
        print_facts({"stored": str(result.stored), "figure": str(result.figure)})


def _print_matrix(names: list[str], confusion: Confusion) -> None:
    """Print the confusion matrix; its columns have class names if there is room, else indices."""
    cells = [["·"] * len(names) for _ in names]
    for true, predicted, count in confusion:
        cells[true][predicted] = str(count)
    columns = [[name, *(row[at] for row in cells)] for at, name in enumerate(names)]
    headings, labels = names, names
    if sum(2 + max(map(cell_len, column)) for column in [names, *columns]) > stdout().width:
        headings = [str(at) for at in range(len(names))]
        labels = [f"{at:>{len(headings[-1])}} {name}" for at, name in enumerate(names)]
    rows = [(label, *row) for label, row in zip(labels, cells, strict=True)]
    print_table(("", *headings), rows, numbers=range(1, len(names) + 1))


def _print_mistakes(names: list[str], confusion: Confusion) -> None:
    """Print the ten most frequent mistakes."""
    mistakes = [(count, names[true], names[predicted]) for true, predicted, count in confusion if true != predicted]
    rows = [(f"{count:,}", true, predicted) for count, true, predicted in sorted(mistakes, reverse=True)[:10]]
    print_table(("images", "true class", "predicted"), rows, numbers={0})
