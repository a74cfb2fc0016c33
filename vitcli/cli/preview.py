"""The command ``vit preview``."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from vitcli.cli.console import listening, print_facts, print_json, stderr
from vitcli.cli.inline_images import can_show, show_image
from vitcli.cli.options import (
    DataDirOption,
    DatasetArgument,
    ImageColumnOption,
    JsonOption,
    LabelColumnOption,
    LabelMapOption,
    LabelsOption,
    OnBadImageOption,
    TestFractionOption,
    ValFractionOption,
)
from vitcli.cli.train_options import flags_in
from vitcli.cli.usage_errors import named_as_typed
from vitcli.core.importing import importing
from vitcli.core.words import percent

if TYPE_CHECKING:
    from vitcli.workflows.preview import Preview


def preview(
    dataset: DatasetArgument = None,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", "-r", help="A name of `vit recipes`, or a TOML file.", show_default="the data set's"),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A TOML file of settings, which override the recipe.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting, for example augment.flip=0.5."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A name of `vit models`.", show_default="the recipe's", rich_help_panel="Model"
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            "--image-size",
            "--img-size",
            help="Model input in pixels: 32, or HEIGHTxWIDTH.",
            show_default="the model's",
            rich_help_panel="Model",
        ),
    ] = None,
    mixup: Annotated[
        float | None, typer.Option("--mixup", help="MixUp's alpha; printed, not drawn.", show_default="the recipe's")
    ] = None,
    labels: LabelsOption = None,
    image_column: ImageColumnOption = None,
    label_column: LabelColumnOption = None,
    label_map: LabelMapOption = None,
    val_fraction: ValFractionOption = None,
    test_fraction: TestFractionOption = None,
    on_bad_image: OnBadImageOption = None,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option("--split", help="Split of the images in samples.png.")
    ] = "train",
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Seed of all random numbers, held-out images included.", show_default="42"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder of the figures.", show_default="previews/DATASET below --output-dir"
        ),
    ] = None,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", help="Folder of all runs.", show_default="experiments")
    ] = None,
    data_dir: DataDirOption = "",
    offline: Annotated[bool | None, typer.Option("--offline", help="Download nothing.", show_default=False)] = None,
    show: Annotated[
        bool | None,
        typer.Option("--show/--no-show", help="Show the figures in the terminal.", show_default="if the terminal can"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Draw a data set before training on it: samples, augmented images, and the number of images per class.

    Images are held out, cropped, changed and normalised as `vit train` does with the same options. Use --set for
    options of `vit train` that are not listed here. Nothing is trained.
    """
    # Turn options into layers of settings, and check them before torch is imported
    folder = {
        "labels": labels,
        "image_column": image_column,
        "label_column": label_column,
        "label_map": label_map,
        "val_fraction": val_fraction,
        "test_fraction": test_fraction,
        "on_bad_image": on_bad_image,
    }
    data = {"name": dataset, "dir": data_dir or None, **folder}
    run = {"recipe": recipe, "seed": seed, "output_dir": output_dir, "offline": offline}
    from vitcli.core.config_files import layers_of
    from vitcli.training.stated_settings import HARMLESS, stated_settings

    chosen = {"name": model, "image_size": image_size}
    layers = layers_of(
        {"data": data, "augment": {"mixup": mixup}, "model": chosen, "run": run},
        config=config,
        assignments=assignments or (),
    )
    given = {
        "recipe": recipe,
        "config": config,
        "model": model,
        "image_size": image_size,
        "mixup": mixup,
        **folder,
        "seed": seed,
        "output_dir": output_dir,
        "data_dir": data_dir or None,
    }
    with named_as_typed(flags_in({**given, "dataset": dataset, "assignments": assignments}), layers, config):
        stated_settings([*layers, HARMLESS])  # reports wrong settings before torch is imported

        # Draw
        with importing():
            from vitcli.workflows.preview import preview as preview_workflow
        with listening() as emit:
            result = preview_workflow(*layers, split=split, output=output, emit=emit)
    if as_json:
        print_json(result)
        return
    _show_facts(result)
    if can_show() if show is None else show:
        for figure in result.figures:
            show_image(figure)

    # Say how to train on what was shown
    options = {f"--{name.replace('_', '-')}": str(value) for name, value in given.items() if value is not None}
    pairs = [*options.items(), *(("--set", each) for each in assignments or ())]
    words = ["vit", "train", *([dataset] if dataset else []), *(word for pair in pairs for word in pair)]
    words += ["--offline"] if offline else []
    stderr().print(f"\nnext: [bold]{escape(shlex.join(words))}[/]")


def _show_facts(result: "Preview") -> None:
    """Print the facts about the data set and the figures as a table."""
    scores = ", ".join(f"{percent(share)} of {split}" for split, share in result.baseline.items())
    height, width = result.image_size
    first, *others = map(str, result.figures)
    print_facts(
        {
            "data set": result.dataset,
            "images": ", ".join(f"{count:,} {split}" for split, count in result.images.items()),
            "classes": f"{result.classes:,}",
            "majority baseline": f"always answering {result.majority!r} scores {scores}",
            "model": f"{result.model}, recipe {result.recipe}, sees {height} x {width} pixels",
            "figures": "\n".join([first, *others]),
        }
    )
