"""The command ``vit predict``."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from vitcli.cli.console import listening, print_facts, print_json, print_table, stderr
from vitcli.cli.options import (
    EXPERIMENTS,
    DataDirOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    OfflineOption,
    OutputDirOption,
    new_file,
)
from vitcli.cli.streams import write_as_file
from vitcli.core.errors import DataError
from vitcli.core.files import check_output_file, check_replaced_file, csv_text, safe_cell, write_text
from vitcli.core.importing import importing
from vitcli.core.words import percent

if TYPE_CHECKING:
    from vitcli.workflows.predict import Prediction, PredictResult


_STDOUT = Path("-")


def predict(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image files, folders, or patterns such as 'photos/*.jpg'; - reads a list of them from stdin.",
            show_default=False,
            metavar="IMAGE",
        ),
    ] = None,
    model: ModelOption = "",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="Number of classes per image.")] = 1,
    min_confidence: Annotated[
        float,
        typer.Option("--min-confidence", min=0, max=1, help="Answer unknown if the best class is less probable."),
    ] = 0.0,
    coverage: Annotated[
        float | None,
        typer.Option(
            "--coverage", help="Answer unknown for the least sure images, so that this share is answered, e.g. 0.95."
        ),
    ] = None,
    sets: Annotated[
        float | None,
        typer.Option("--sets", help="Give sets of classes that have the true one with this probability, e.g. 0.9."),
    ] = None,
    csv_file: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            "--output",
            "-o",
            help="Write a CSV file, or - for stdout: one row per image.",
            show_default=False,
            metavar="FILE",
            parser=new_file,
        ),
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
            metavar="FILE",
            parser=new_file,
        ),
    ] = None,
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Write probabilities into --submission, also if its sample has one column of labels.",
        ),
    ] = False,
    allow_urls: Annotated[
        bool, typer.Option("--allow-urls", help="Fetch images from web addresses (https://...), up to 100 MB each.")
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
    for is_wrong, why in (
        (bool(images) == bool(submission), "give either IMAGE... or --submission FILE"),
        (
            probabilities and not submission,
            "--probabilities belongs to --submission FILE; --csv always has them (see --top-k)",
        ),
        (data_dir and not submission, "--data-dir belongs to --submission FILE"),
        (raw and not csv_file, "--raw belongs to --csv FILE"),
        (submission == _STDOUT, "--submission takes a file, such as submission.csv, and not - for stdout"),
        (submission and csv_file, "--submission names the file to write: leave out -o, --output or --csv"),
    ):
        if is_wrong:
            raise typer.BadParameter(why)
    unused = {
        "--min-confidence": min_confidence,
        "--coverage": coverage is not None,
        "--sets": sets is not None,
        "--top-k": top_k > 1,
        "--allow-urls": allow_urls,
    }
    if submission and any(unused.values()):
        given = ", ".join(name for name, is_given in unused.items() if is_given)
        raise typer.BadParameter(f"a submission does not take {given}")
    if submission:
        check_output_file(submission)
        options = {"output_dir": output_dir, "device": device, "batch_size": batch_size, "offline": offline}
        _submit(submission, model, options, directory=data_dir, probabilities=probabilities, as_json=as_json)
        return
    if csv_file == _STDOUT and as_json:
        raise typer.BadParameter("--csv - and --json both write to stdout: give --csv FILE, or leave out one of them")
    if csv_file and csv_file != _STDOUT:
        check_replaced_file(csv_file, "path,class,probability,")
    from vitcli.data.image_files import found_images, is_address
    from vitcli.trained.model_names import check_models

    listed = _listed_on_stdin() if "-" in (images or ()) else []
    inputs = [each for text in images or () for each in (listed if text == "-" else [text])]
    # If no image exists, report that before torch is imported; some missing ones get a row
    files = [found_images(text) for text in inputs if not (allow_urls and is_address(text))]
    missing = [found for found in files if isinstance(found, DataError)]
    if missing and len(missing) == len(inputs):
        raise missing[0]
    check_models(model, output_dir=output_dir, device=device)
    with importing():
        from vitcli.workflows.predict import predict as predict_workflow
    with listening() as emit:
        result = predict_workflow(
            inputs,
            model=model,
            top_k=top_k,
            min_confidence=min_confidence,
            coverage=coverage,
            sets=sets,
            output_dir=output_dir,
            device=device,
            allow_urls=allow_urls,
            offline=offline,
            batch_size=batch_size,
            emit=emit,
        )
    _show(result, csv_file, raw=raw, with_best=bool(min_confidence) or coverage is not None, as_json=as_json)


def _listed_on_stdin() -> list[str]:
    """Read a list of inputs from stdin, one per line."""
    lines = os.fsdecode(sys.stdin.buffer.read()).split("\n")  # names may have any other character
    listed = [name for line in lines if (name := line.removesuffix("\r"))]
    if not listed:
        raise DataError("no images: the list on stdin is empty", hint="find photos -name '*.jpg' | vit predict -")
    return listed


def _show(result: "PredictResult", csv_file: Path | None, *, raw: bool, with_best: bool, as_json: bool) -> None:
    """Write the rows as a table, CSV or JSON, and count them; exit with 1 if an image could not be read."""
    verb = "replaced" if csv_file and csv_file.is_file() else "written"
    if csv_file == _STDOUT:
        write_as_file(_as_csv(result.rows, raw=raw, with_best=with_best))
    elif csv_file:
        write_text(csv_file, _as_csv(result.rows, raw=raw, with_best=with_best))
    if as_json:
        print_json(result)
    elif not csv_file:
        _print_rows(result.rows)
    bad = sum(bool(row.error) for row in result.rows)
    if csv_file or bad or len(result.rows) > 1 or any(row.is_unknown for row in result.rows):
        stderr().print(escape(_counted(result, bad, csv_file, verb)))
    if bad:
        raise typer.Exit(1)


def _counted(result: "PredictResult", bad: int, csv_file: Path | None, verb: str) -> str:
    """Count the images that were predicted, could not be read, or were passed over, and name the file."""
    counts = [f"{len(result.rows) - bad:,} predicted"]
    if unknown := sum(row.is_unknown for row in result.rows):
        counts.append(f"{unknown:,} of them unknown")
    if bad:
        counts.append(f"{bad:,} could not be read (see {'column error' if csv_file else 'the errors'})")
    if result.passed_over:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in result.passed_over.items())
        counts.append(f"passed over: {kinds}")
    return ", ".join(counts) + (f"; {verb}: {csv_file}" if csv_file and csv_file != _STDOUT else "")


def _submit(
    path: Path, model: str, options: dict[str, Any], *, directory: str, probabilities: bool, as_json: bool
) -> None:
    """Write the submission for a competition, and show what was written."""
    from vitcli.trained.model_names import check_models

    check_models(model, output_dir=options["output_dir"], device=options["device"])
    with importing():
        from vitcli.workflows.predict import predict_submission
    with listening() as emit:
        result = predict_submission(
            path, model=model, directory=directory, probabilities=probabilities, **options, emit=emit
        )
    if as_json:
        print_json(result)
        return
    print_facts(
        {
            "model": result.model,
            "submission": str(result.path),
            "images": f"{result.images:,}",
            "columns": ", ".join(result.columns),
        }
    )
    if result.competition:
        command = shlex.join(
            ["kaggle", "competitions", "submit", "-c", result.competition, "-f", str(result.path), "-m", "vit"]
        )
        stderr().print(f"\nnext: [bold]{escape(command)}[/]")


def _print_rows(rows: "tuple[Prediction, ...]") -> None:
    """Print the predictions as a table; an unreadable image has the error in place of its class."""
    cells: list[tuple[str, str, str]] = []
    for row in rows:
        if row.error:
            cells.append((str(row.path), f"error: {row.reason}", ""))
        for rank, (name, probability) in enumerate(zip(row.classes, row.probabilities, strict=True)):
            shown = f"unknown ({name}?)" if row.is_unknown and not rank else name
            cells.append(("" if rank else str(row.path), shown, percent(probability)))
    print_table(("image", "class", "probability"), cells, numbers={2})


def _as_csv(rows: "tuple[Prediction, ...]", *, raw: bool, with_best: bool) -> str:
    """Format the rows as CSV: path, class, probability, class_2, probability_2 ..., error.

    The class of an unknown image is ``unknown``; ``with_best`` adds a last column with the best class of every image.
    Names that a spreadsheet would take for a formula get an apostrophe, unless they are wanted ``raw``.
    """
    name_of: Callable[[str], str] = str if raw else safe_cell
    count = max((len(row.classes) for row in rows), default=1) or 1
    numbers = ["", *(f"_{rank}" for rank in range(2, count + 1))]
    headings = (f"{field}{number}" for number in numbers for field in ("class", "probability"))
    lines = [["path", *headings, "error", *(["best_class"] if with_best else [])]]
    for row in rows:
        pairs = [(name_of(name), f"{value:.6f}") for name, value in zip(row.classes, row.probabilities, strict=True)]
        pairs += [("", "")] * (count - len(pairs))
        best = [pairs[0][0]] if with_best else []
        if row.is_unknown:
            pairs[0] = ("unknown", pairs[0][1])
        cells = (cell for pair in pairs for cell in pair)
        lines.append([name_of(str(row.path)), *cells, name_of(row.error), *best])
    return csv_text(lines)
