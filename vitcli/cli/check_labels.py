"""The command ``vit check-labels``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    OfflineOption,
    OnBadImageOption,
    OutputDirOption,
)
from vitcli.core.errors import counted
from vitcli.core.importing import importing
from vitcli.core.words import percent

if TYPE_CHECKING:
    from vitcli.judging.label_findings import Finding, Kind
    from vitcli.workflows.check_labels import LabelCheck

_WORST = 10
"""Number of findings of each kind that are printed."""
_KINDS: "dict[Kind, str]" = {
    "label": "likely label errors",
    "leak": "near-duplicates in different splits",
    "duplicate": "near-duplicates within a split",
    "outlier": "outliers",
}
_IN_GROUPS = ("leak", "duplicate")


def check_labels(
    dataset: Annotated[
        str,
        typer.Argument(help="A data set or image folder.", show_default="that of the cross-validation in --model"),
    ] = "",
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="A cross-validation on these images, or a run or weights that were trained on others.",
            show_default="newest cross-validation on these images, else pixels",
        ),
    ] = "",
    labels: LabelsOption = None,
    image_column: ImageColumnOption = None,
    label_column: LabelColumnOption = None,
    label_map: LabelMapOption = None,
    on_bad_image: OnBadImageOption = None,
    similarity: Annotated[
        float | None,
        typer.Option(
            "--similarity", help="Cosine similarity from which images are near-duplicates.", show_default="by the data"
        ),
    ] = None,
    pictures: Annotated[int, typer.Option("--pictures", min=1, help="Images on the web page, at most.")] = 200,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the results.", show_default="check-labels/DATASET below --output-dir"
        ),
    ] = None,
    output_dir: OutputDirOption = EXPERIMENTS,
    data_dir: DataDirOption = "",
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find likely label errors, near-duplicates, leaks between splits, and outliers.

    Writes a table of findings, and a web page to decide about them: it makes a new table of labels for `vit train
    --labels`. Images are not changed.
    """
    asked = {
        "labels": labels,
        "image_column": image_column,
        "label_column": label_column,
        "label_map": label_map,
        "on_bad_image": on_bad_image,
    }
    from vitcli.data.store import check_dataset
    from vitcli.trained.model_names import check_models

    if model:
        check_models(model, output_dir=output_dir, device=device)  # reports a wrong name before torch is imported
    check_dataset(dataset, labels=labels or "", output_dir=output_dir)
    with importing():
        from vitcli.workflows.check_labels import check_labels as check_labels_workflow
    with listening() as emit:
        result = check_labels_workflow(
            dataset=dataset,
            model=model,
            similarity=similarity,
            pictures=pictures,
            output=output,
            output_dir=output_dir,
            directory=data_dir,
            device=device,
            offline=offline,
            table={key: value for key, value in asked.items() if value is not None},
            emit=emit,
        )
    if as_json:
        print_json(result)
        return
    _show(result)


def _show(result: "LabelCheck") -> None:
    """Print the counts, the worst findings of each kind, and the files."""
    unjudged = f"; {counted(result.not_judged, 'label')} not judged" if result.not_judged else ""
    print_facts(
        {
            "data": f"{result.dataset}, {result.images:,} images",
            "labels judged by": f"{result.probabilities_from}{unjudged}",
            "agreement": "no label was judged"
            if result.agreement is None
            else f"{percent(result.agreement)} of these labels are the most probable class",
            "features": result.features_from,
            **{
                words: counted(result.counts[kind], "group") if kind in _IN_GROUPS else f"{result.counts[kind]:,}"
                for kind, words in _KINDS.items()
            },
            "near-duplicates from": f"cosine similarity {result.similarity:.4f}, as {result.features_from} "
            + ("see them" if result.features_from == "pixels" else "sees them")
            + ": look before you drop any",
        }
    )
    for kind, words in _KINDS.items():
        rows = [row for row in result.findings if row.kind == kind]
        if rows:
            stdout().print()
            more = f", the {_WORST} worst of {len(rows):,} rows" if len(rows) > _WORST else ""
            _print_findings(f"{words}{more}", rows[:_WORST])
    stdout().print()
    left_out = ", ".join(counted(count, kind) for kind, count in result.not_on_page.items() if count)
    print_facts(
        {
            "all findings": str(result.table),
            "web page": f"{result.page}{f' (left out: {left_out}; --pictures N shows more)' if left_out else ''}",
        }
    )


def _print_findings(title: str, rows: "list[Finding]") -> None:
    """Print findings of one kind as a table, with the columns that this kind has."""
    if rows[0].group is None:
        suggests = rows[0].kind == "label"
        headings = ["image", "label", *(["suggested"] if suggests else []), "score", "split"]
        cells = [
            [row.path, row.label, *([row.suggested] if suggests else []), f"{row.score:.3f}", row.split] for row in rows
        ]
        print_table(headings, cells, numbers=[len(headings) - 2], title=title)
        return
    cells = [
        [str(row.group), row.path, row.label, f"{row.score:.4f}", row.split, row.group_labels or ""] for row in rows
    ]
    headings = ["group", "image", "label", "similarity", "split", "labels"]
    print_table(headings, cells, numbers=[0, 3], title=title)
