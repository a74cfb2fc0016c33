"""The command ``vit pretrain``."""

import shlex
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from vitcli.cli.console import listening, print_facts, print_json, stderr
from vitcli.cli.train_options import ROWS, Row, flags_in, settings_in, with_options
from vitcli.cli.usage_errors import named_as_typed
from vitcli.core.importing import importing
from vitcli.core.words import duration

if TYPE_CHECKING:
    from vitcli.workflows.pretrain import PretrainResult

_OF_TRAIN = (
    *("dataset", "val_fraction", "test_fraction", "on_bad_image", "cache", "workers"),
    *("recipe", "config", "assignments", "model", "image_size", "init_from", "epochs", "batch_size", "opt", "lr"),
    *("seed", "device", "amp", "output_dir", "data_dir", "save_steps", "offline", "as_json"),
)
"""Options of ``vit train`` that this command has too."""
_OWN = (
    Row(
        "",
        Annotated[
            float | None,
            typer.Option(
                "--mask-ratio", help="Share of the patches that is hidden, for example 0.5.", show_default="0.5"
            ),
        ],
        name="mask_ratio",
    ),
    Row(
        "run.name",
        Annotated[str | None, typer.Option("--name", "-n", help="The name of its folder.", show_default="generated")],
        name="name",
    ),
    Row(
        "",
        Annotated[
            str | None,
            typer.Option(
                "--resume",
                help="Continue a pretraining; without a name, the newest unfinished one.",
                show_default=False,
            ),
        ],
        name="resume",
    ),
)


@partial(with_options, rows=[*(row for row in ROWS if row.parameter in _OF_TRAIN), *_OWN])
def pretrain(**given: Any) -> None:
    """Pretrain a model on images without labels, by predicting hidden patches.

    A folder may have any layout. `vit train FOLDER --init-from NAME` then needs far fewer labelled images. Of a data set
    with classes, only the images that `vit train` would train on are used.
    """
    from vitcli.core.config_files import layers_of
    from vitcli.training.pretraining import MASK_RATIO, Pretraining, check_resumed, check_settings
    from vitcli.training.resumed_settings import output_dir_of
    from vitcli.training.stated_settings import stated_settings

    # Check everything that does not depend on the images before torch is imported
    chosen = {row.parameter: None for row in ROWS} | {name: given[name] for name in (*_OF_TRAIN, "name")}
    layers = layers_of(settings_in(chosen), config=given["config"], assignments=given["assignments"] or ())
    ratio = MASK_RATIO if given["mask_ratio"] is None else given["mask_ratio"]
    with named_as_typed(flags_in(chosen), layers, given["config"]):
        if given["resume"] is None:
            check_settings(layers, ratio)
            stated_settings(layers)
            with importing():
                from vitcli.workflows.pretrain import pretrain as workflow
            work = partial(workflow, *layers, mask_ratio=ratio)
        else:
            check_resumed(layers, given["mask_ratio"])
            Pretraining.find(given["resume"], output_dir_of(layers))
            with importing():
                from vitcli.workflows.pretrain import resume_pretraining
            work = partial(resume_pretraining, given["resume"], *layers)
        with listening() as emit:
            result = work(emit=emit)
    if given["as_json"]:
        print_json(result)
    else:
        _show(result)


def _show(result: "PretrainResult") -> None:
    """Show what was trained on, the losses, and the next command."""
    print_facts(
        {
            "weights": str(result.weights),
            "images": f"{result.images:,} of {result.dataset}, {result.held_out:,} held out",
            "model": f"{result.model}, recipe {result.recipe}",
            "epochs": str(result.epochs),
            "loss": f"{result.train_loss:.4f}, of held-out images {result.val_loss:.4f} (1: it knows nothing)",
            "figures": f"curves.png and reconstructions.png in {result.path / 'figures'}",
            "time": duration(result.seconds),
        }
    )
    then = f"vit train PATH/TO/labelled --init-from {shlex.quote(str(result.path))}"
    stderr().print(
        f"\nnext: [bold]{escape(then)}[/]  trains on labelled images",
        soft_wrap=True,  # the terminal breaks the lines, so that they are copied whole
    )
