"""The command ``vit eval``."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.cells import cell_len
from rich.markup import escape

from vitcli.cli.console import listening, print_facts, print_json, print_table, stderr, stdout
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
from vitcli.core.errors import counted
from vitcli.core.importing import importing
from vitcli.core.words import percent

if TYPE_CHECKING:
    from vitcli.judging.metrics import Metrics
    from vitcli.workflows.calibrate import CalibrationResult
    from vitcli.workflows.evaluate import EvalResult

_TOP = 5
"""Number of classes up to which top-5 accuracy is not shown, because it is always 100 %."""
_FAR_OFF = 0.05
"""The difference of mean confidence and accuracy from which calibration is suggested."""
_MOST_MATRIX = 10
"""Number of classes up to which the confusion matrix is printed completely, because it fits into 80 columns."""

_VIEWS = {"flip": "2 views of each (with its mirror image)", "five": "5 views of each (with its corners)"}
_MOST_CLASSES = 100
"""Number of classes up to which every class is printed; with more, the worst ones."""

Confusion = tuple[tuple[int, int, int], ...]
"""True class, predicted class and number of images, without zeros."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CalibratedEvaluation:
    """The results of ``vit eval --calibrate``."""

    evaluation: "EvalResult"
    """The evaluation with the new temperature."""
    calibration: "CalibrationResult"
    """The calibration before it."""


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
    tta: Annotated[
        Literal["none", "flip", "five"],
        typer.Option(
            "--tta", help="Average over views of each image: flip adds its mirror image, five its four corners."
        ),
    ] = "none",
    classes: Annotated[
        Literal["all", "shared"],
        typer.Option("--classes", help="shared: judge only classes that both the model and the data have."),
    ] = "all",
    mistakes: Annotated[
        Path | None,
        typer.Option(
            "--mistakes", help="Copy wrongly answered images into this new folder, by true and predicted class."
        ),
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="With --mistakes: make links instead of copies.")] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="First fit a temperature on the validation images, and keep it in the checkpoint."
        ),
    ] = False,
    output_dir: OutputDirOption = EXPERIMENTS,
    data_dir: DataDirOption = "",
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Evaluate a model on images that it has not seen: metrics with intervals, classes, calibration, mistakes.

    Numbers, a row for every image, and figures are stored in the run.
    """
    if link and not mistakes:
        raise typer.BadParameter("--link belongs to --mistakes FOLDER")
    asked = {"labels": labels, "image_column": image_column, "label_column": label_column, "label_map": label_map}
    from vitcli.data.store import check_dataset
    from vitcli.trained.model_names import check_models

    check_models(model, output_dir=output_dir, device=device)  # reports missing models before torch is imported
    check_dataset(dataset, labels=labels or "", output_dir=output_dir)

    # Evaluate
    with importing():
        from vitcli.workflows.calibrate import calibrate as calibrate_workflow
        from vitcli.workflows.evaluate import evaluate as evaluate_workflow
    calibration = None
    with listening() as emit:
        if calibrate:
            calibration = calibrate_workflow(
                model=model,
                output_dir=output_dir,
                directory=data_dir,
                device=device,
                batch_size=batch_size,
                offline=offline,
                emit=emit,
            )
        result = evaluate_workflow(
            dataset=dataset,
            model=model,
            split=split,
            output_dir=output_dir,
            directory=data_dir,
            device=device,
            offline=offline,
            batch_size=batch_size,
            views=tta,
            classes=classes,
            mistakes=mistakes,
            links=link,
            table={key: value for key, value in asked.items() if value is not None},
            emit=emit,
        )
    if as_json:
        print_json(CalibratedEvaluation(evaluation=result, calibration=calibration) if calibration else result)
        return
    if calibration:
        rises = "; the temperature has the least loss" * (calibration.ece_after > calibration.ece_before)
        print_facts(
            {
                "temperature": f"{calibration.temperature:.3f}, fitted on {counted(calibration.images, 'validation image')}",
                "their loss": f"{calibration.loss_before:.4f} before, {calibration.loss_after:.4f} after",
                "their ECE": f"{percent(calibration.ece_before)} before, {percent(calibration.ece_after)} after{rises}",
            }
        )
        stdout().print()
    show_evaluation(result, mistakes)


def show_evaluation(result: "EvalResult", mistakes: Path | None) -> None:
    """Show the numbers, the classes, the confusion matrix or the most frequent mistakes, then files and folders."""
    from vitcli.judging.missing import missing_of_classes, missing_scores

    metrics = result.metrics
    commonest = max(metrics.classes, key=lambda each: each.images)
    views = f", {_VIEWS[result.views]}" if result.views != "none" else ""
    model = f"{result.model} ({result.checkpoint})"
    several = f"the mean of {result.models} models: {result.model}"
    if result.part == "out-of-fold":
        several = f"{result.models} folds, each for the images that it was not trained on: {result.model}"
    print_facts(
        {
            "model": model if result.models == 1 else several,
            "data": f"{result.dataset}, {result.images_in_words()}{views}",
            "top-1": _with_interval(metrics, "top1"),
            **({"top-5": _with_interval(metrics, "top5")} if len(metrics.classes) > _TOP else {}),
            "baseline": f"{percent(metrics.baseline)}, by always answering {commonest.name}",
            "balanced accuracy": _with_interval(metrics, "balanced_accuracy"),
            "macro F1": f"{_with_interval(metrics, 'macro_f1')}; precision {percent(metrics.macro_precision)},"
            f" recall {percent(metrics.macro_recall)}",
            "weighted F1": f"{percent(metrics.weighted_f1)}; precision {percent(metrics.weighted_precision)},"
            f" recall {percent(metrics.weighted_recall)}",
            "kappa, MCC": f"{_number(metrics.kappa)}, {_number(metrics.mcc)}",
            "ROC-AUC": f"{_number(metrics.roc_auc)}; average precision {_number(metrics.average_precision)}"
            + ("" if metrics.is_ranked_exactly else " (in bins)"),
            "loss": f"{metrics.loss:.4f}",
            "confidence": f"{percent(metrics.mean_confidence)} on average, {_beside_accuracy(metrics)}",
            "calibration": f"ECE {percent(metrics.ece)}, adaptive {percent(metrics.adaptive_ece)},"
            f" Brier {metrics.brier:.4f}",
        }
    )
    stdout().print(
        "95 % intervals in brackets; one class against the others: ROC-AUC and average precision", style="dim"
    )
    _print_missing(missing_scores(metrics))
    _print_classes(metrics)
    _print_missing(missing_of_classes(metrics))
    names = [each.name for each in metrics.classes]
    if len(names) <= _MOST_MATRIX:
        stdout().print("\n[bold]confusion matrix[/] (rows: true class, columns: predicted)")
        _print_matrix(names, metrics.confusion)
    else:
        stdout().print("\n[bold]most frequent mistakes[/]")
        _print_mistakes(names, metrics.confusion)
    if result.files or result.sorted_mistakes is not None:
        stdout().print()
        facts = {name: str(path) for name, path in result.files.items()}
        if result.sorted_mistakes is not None:
            facts["mistakes"] = f"{counted(result.sorted_mistakes, 'image')}, sorted into {mistakes}"
        print_facts(facts)
    stored = result.files.get("metrics")
    is_first = stored and stored.stem == "test" and result.models == 1 and not result.is_calibrated
    if (
        stored
        and is_first
        and metrics.top1 > metrics.baseline
        and abs(metrics.mean_confidence - metrics.top1) > _FAR_OFF
    ):
        fit = f"`vit eval --calibrate --model {shlex.quote(str(stored.parent.parent))}` brings them closer"
        stderr().print(escape(f"the probabilities are {_beside_accuracy(metrics)} on average: {fit}"))
    if stored and stored.stem == result.split:  # the usual evaluation, which a report shows
        words = ["vit", "report", str(stored.parent.parent), *(["--split", result.split] * (result.split != "test"))]
        stderr().print(
            f"\nnext: [bold]{escape(shlex.join(words))}[/]  writes a web page with a picture of every mistake"
        )


def _beside_accuracy(metrics: "Metrics") -> str:
    """Say how far the mean confidence is from the accuracy."""
    gap = metrics.mean_confidence - metrics.top1
    return f"{100 * abs(gap):.1f} points {'above' if gap > 0 else 'below'} the accuracy"


def _print_missing(reasons: list[str]) -> None:
    """Say below a table why some of its numbers are missing."""
    for reason in reasons:
        stdout().print(escape(reason), style="dim")


def _with_interval(metrics: "Metrics", name: str) -> str:
    value, ends = getattr(metrics, name), metrics.intervals.get(name)
    return f"{percent(value)} [{percent(ends[0])} - {percent(ends[1])}]" if ends else percent(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _print_classes(metrics: "Metrics") -> None:
    """Print a row for each class; of very many, only the ones with the lowest F1."""
    seen = [each for each in metrics.classes if each.images or each.predicted]
    shown = sorted(seen, key=lambda each: each.f1)[:_MOST_CLASSES]
    is_short = len(metrics.classes) <= _MOST_CLASSES
    rows = [
        (
            each.name,
            f"{percent(each.recall)} ({each.correct:,}/{each.images:,})" if each.images else "- (0/0)",
            percent(each.precision) if each.predicted else "-",
            percent(each.f1) if each.images or each.predicted else "-",
            _number(each.roc_auc),
        )
        for each in (metrics.classes if is_short else shown)
    ]
    unseen = f"; {len(metrics.classes) - len(seen):,} have no images and were never predicted"
    rest = (
        ""
        if is_short
        else f", the {len(shown):,} of {len(seen):,} with the lowest F1" + unseen * (len(seen) < len(metrics.classes))
    )
    stdout().print(f"\n[bold]classes[/]{rest}")
    print_table(("class", "accuracy (recall)", "precision", "F1", "ROC-AUC"), rows, numbers={1, 2, 3, 4})


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
