"""The command ``vit predict``."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from vitcli.cli.console import listening, print_facts, print_json, print_table, stderr
from vitcli.cli.options import (
    EXPERIMENTS,
    DataDirOption,
    DeviceOption,
    ImagesArgument,
    JsonOption,
    ModelOption,
    OfflineOption,
    OutputDirOption,
)
from vitcli.cli.words import percent
from vitcli.core.files import safe_cell, write_text
from vitcli.core.importing import importing

if TYPE_CHECKING:
    from vitcli.workflows.predict import Prediction, SubmissionResult


def predict(
    images: ImagesArgument = None,
    model: ModelOption = "",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Number of classes per image.")] = 1,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write a CSV file: one row per image.", show_default=False)
    ] = None,
    raw: Annotated[
        bool,
        typer.Option("--raw", help="Write names that begin like a formula (= + - @) into --csv without an apostrophe."),
    ] = False,
    submission: Annotated[
        Path | None,
        typer.Option(
            "--submission",
            help="Write a submission for the test images of the competition that the model was trained on.",
            show_default=False,
        ),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Write probabilities into --submission, also if its sample has one column of labels.",
        ),
    ] = False,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", min=1, help="Images per batch.")] = 64,
    output_dir: OutputDirOption = EXPERIMENTS,
    data_dir: DataDirOption = "",
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Predict the class of each image.

    The output has one row per image. If an image cannot be read, its row says why, and the exit code is 1. --model with
    a cross-validation or a pattern such as 'RUN/fold-*' averages several models.
    """
    if bool(images) == bool(submission):
        raise typer.BadParameter("give either IMAGE... or --submission FILE")
    if probabilities and not submission:
        raise typer.BadParameter("--probabilities belongs to --submission FILE; --csv always has them (see --top-k)")
    if submission:
        from vitcli.trained.model_names import check_models

        check_models(model, output_dir=output_dir, device=device)
        with importing():
            from vitcli.workflows.predict import predict_submission
        with listening() as emit:
            submitted = predict_submission(
                submission,
                model=model,
                output_dir=output_dir,
                directory=data_dir,
                device=device,
                batch_size=batch_size,
                probabilities=probabilities,
                offline=offline,
                emit=emit,
            )
        if as_json:
            print_json(submitted)
        else:
            _show_submission(submitted)
        return
    from vitcli.data.image_files import image_files
    from vitcli.trained.model_names import check_models

    image_files(images or ())  # reports missing files before torch is imported
    check_models(model, output_dir=output_dir, device=device)
    with importing():
        from vitcli.workflows.predict import predict as predict_workflow
    with listening() as emit:
        result = predict_workflow(
            images or (),
            model=model,
            top_k=top_k,
            output_dir=output_dir,
            device=device,
            offline=offline,
            batch_size=batch_size,
            emit=emit,
        )
    bad = sum(bool(row.error) for row in result.rows)
    counted = f"{len(result.rows) - bad:,} predicted" + (f", {bad:,} could not be read (see the errors)" if bad else "")
    if csv_file:
        write_text(csv_file, _as_csv(result.rows, raw=raw))
        counted += f": {escape(str(csv_file))}"
    if as_json:
        print_json(result)
    elif not csv_file:
        _print_rows(result.rows)
    if csv_file or bad:
        stderr().print(counted)
    if bad:
        raise typer.Exit(1)


def _show_submission(result: "SubmissionResult") -> None:
    print_facts(
        {
            "model": result.model,
            "submission": str(result.path),
            "images": f"{result.images:,}",
            "columns": ", ".join(result.columns),
        }
    )
    if result.competition:
        stderr().print(
            f"\nnext: [bold]kaggle competitions submit -c {result.competition} -f {escape(str(result.path))} -m vit[/]"
        )


def _print_rows(rows: "tuple[Prediction, ...]") -> None:
    """Print the predictions as a table; an unreadable image has the error in place of its class."""
    cells: list[tuple[str, str, str]] = []
    for row in rows:
        if row.error:
            reason = row.error.removeprefix(f"{row.path} ")  # the path is in the first column
            cells.append((str(row.path), f"error: {reason}", ""))
        for rank, (name, probability) in enumerate(zip(row.classes, row.probabilities, strict=True)):
            cells.append(("" if rank else str(row.path), name, percent(probability)))
    print_table(("image", "class", "probability"), cells, numbers={2})


def _as_csv(rows: "tuple[Prediction, ...]", *, raw: bool) -> str:
    """Format the rows as CSV: path, class, probability, class_2, probability_2 ..., error.

    Names that a spreadsheet would take for a formula get an apostrophe, unless they are wanted ``raw``.
    """
    name_of: Callable[[str], str] = str if raw else safe_cell
    count = max((len(row.classes) for row in rows), default=1) or 1
    numbers = ["", *(f"_{rank}" for rank in range(2, count + 1))]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["path", *(f"{field}{number}" for number in numbers for field in ("class", "probability")), "error"]
    )
    for row in rows:
        pairs = [(name_of(name), f"{value:.6f}") for name, value in zip(row.classes, row.probabilities, strict=True)]
        pairs += [("", "")] * (count - len(pairs))
        cells = (cell for pair in pairs for cell in pair)
        writer.writerow([name_of(str(row.path)), *cells, name_of(row.error)])
    return text.getvalue()
