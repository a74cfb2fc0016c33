"""The command ``vit attention-map``."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vitcli.attention.registry import DEFAULT_METHOD, METHODS, parse_methods
from vitcli.cli.attention_report import show_report
from vitcli.cli.attention_trust import show_trust
from vitcli.cli.console import listening, print_json
from vitcli.cli.options import EXPERIMENTS, DataDirOption, DeviceOption, JsonOption, ModelOption, OfflineOption
from vitcli.cli.usage_errors import read_numbers
from vitcli.core.importing import importing

if TYPE_CHECKING:
    from vitcli.figures.attention_style import Style


def _option(panel: str, *names: str, help: str, default: Any = True, **more: Any) -> Any:  # noqa: A002 - typer's name
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=default, **more)


_MAPS, _PICTURES, _SETS, _TRUST = "Maps", "Pictures", "Images of a data set", "Instead of pictures"


def attention_map(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image files, folders, or patterns such as 'photos/*.jpg'; without any, use --split or --dataset.",
            show_default=False,
            metavar="IMAGE",
        ),
    ] = None,
    model: ModelOption = "",
    methods: Annotated[
        list[str] | None,
        _option(
            _MAPS,
            "--method",
            help="\n\n".join(
                ["A name, several names with commas between them, or all (except random):"]
                + [f"[bold]{name}[/]: {entry.summary}" for name, entry in METHODS.items()]
            ),
            default=DEFAULT_METHOD,
            metavar="NAME",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        _option(
            _MAPS,
            "--class",
            help="pred, top3, a name or an index; several with commas between them, or repeat it.",
            default="pred",
            metavar="CLASS",
        ),
    ] = None,
    target: Annotated[
        Literal["logit", "contrast"],
        _option(_MAPS, "--target", help="Explain the logit of the class, or its log-odds against all others."),
    ] = "logit",
    layers: Annotated[
        str, _option(_MAPS, "--layers", help="Layers to use, from 0: 3, 0,1,2 or -1.", default="the method's")
    ] = "",
    heads: Annotated[str, _option(_MAPS, "--heads", help="Heads to use, from 0.", default="all")] = "",
    head_fusion: Annotated[
        Literal["mean", "max", "min"], _option(_MAPS, "--head-fusion", help="How to combine the heads.")
    ] = "mean",
    discard: Annotated[
        float,
        _option(_MAPS, "--discard", help="rollout: share of the attention weights, weakest first, that is set to 0."),
    ] = 0.0,
    mass: Annotated[
        float,
        _option(
            _MAPS, "--mass", help="raw: show only the strongest patches that together have this share of the attention."
        ),
    ] = 1.0,
    steps: Annotated[int, _option(_MAPS, "--steps", help="ig: steps of the integral.")] = 16,
    query: Annotated[
        str,
        _option(
            _MAPS,
            "--query",
            help="Show the attention of one patch: ROW,COLUMN from 0, or a pixel X,Ypx.",
            default=False,
            metavar="PATCH",
        ),
    ] = "",
    compare: Annotated[
        bool,
        _option(
            _PICTURES,
            "--compare",
            help="Methods side by side, with noise; for several classes, one row per method.",
            default=False,
        ),
    ] = False,
    heads_grid: Annotated[
        bool, _option(_PICTURES, "--heads-grid", help="The attention of every layer and head.", default=False)
    ] = False,
    blocks: Annotated[bool, _option(_PICTURES, "--blocks", help="The map of each layer alone.", default=False)] = False,
    gif: Annotated[bool, _option(_PICTURES, "--gif", help="An animation through the layers.", default=False)] = False,
    html: Annotated[
        bool,
        _option(
            _PICTURES,
            "--html",
            help="One web page for all images; hover over a patch to see its attention.",
            default=False,
        ),
    ] = False,
    full: Annotated[
        bool,
        _option(
            _PICTURES, "--full", help="The whole image, with a frame around the part that the model saw.", default=False
        ),
    ] = False,
    sheet: Annotated[
        int | None,
        _option(_PICTURES, "--grid", help="One sheet of this many random images of a split.", default=False, min=1),
    ] = None,
    cmap: Annotated[
        str, _option(_PICTURES, "--cmap", help="Colour map of matplotlib.", default="depends on the map's sign")
    ] = "",
    alpha: Annotated[float, _option(_PICTURES, "--alpha", help="Opacity of the map.", min=0, max=1)] = 0.55,
    norm: Annotated[
        Literal["p99", "max", "minmax", "none"],
        _option(
            _PICTURES,
            "--norm",
            help="Colour scale: up to the 99th percentile or maximum, from minimum to maximum (signed maps: to the same distance on both sides of 0), or none: from 0 to 1 (signed maps: from -1 to 1).",
        ),
    ] = "p99",
    interp: Annotated[
        Literal["bilinear", "nearest", "bicubic"],
        _option(_PICTURES, "--interp", help="Interpolation from patches to pixels."),
    ] = "bilinear",
    min_size: Annotated[
        int, _option(_PICTURES, "--min-size", help="Smaller images are enlarged to this many pixels.", min=1)
    ] = 448,
    dpi: Annotated[
        int, _option(_PICTURES, "--dpi", help="Pixels per inch; more give a sharper picture of the same size.")
    ] = 150,
    font_size: Annotated[
        float, _option(_PICTURES, "--font-size", help="Size of the labels in points; titles are larger.")
    ] = 8,
    arrays: Annotated[
        Literal["npz", "safetensors", "none"], _option(_PICTURES, "--arrays", help="The file for maps and logits.")
    ] = "npz",
    dataset: Annotated[
        str, _option(_SETS, "--dataset", help="Name or folder of a data set.", default="the training data set")
    ] = "",
    split: Annotated[
        Literal["auto", "train", "val", "test"] | None,
        _option(_SETS, "--split", help="auto: test if there is one, else val.", default=False),
    ] = None,
    limit: Annotated[
        int, _option(_SETS, "--limit", help="Maximum number of images, chosen at random.", default="all", min=0)
    ] = 0,
    seed: Annotated[int, _option(_SETS, "--seed", help="Seed of the random choice.", min=0)] = 0,
    score: Annotated[
        bool,
        _option(
            _TRUST,
            "--score",
            help="Find the method to trust for this model: compare its faithfulness with noise.",
            default=False,
        ),
    ] = False,
    check: Annotated[
        bool,
        _option(_TRUST, "--check", help="Check that maps change if the model's weights are replaced.", default=False),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="A folder, or a .png, .pdf or .svg file for one picture.",
            show_default="attention/ of the run",
        ),
    ] = None,
    output_dir: Annotated[Path, typer.Option("--output-dir", help="Folder of all runs.")] = EXPERIMENTS,
    data_dir: DataDirOption = "",
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the patches that a prediction is based on; one picture per image, method and class."""
    # Refuse options that contradict each other
    pictures = {"--compare": compare, "--heads-grid": heads_grid, "--blocks": blocks, "--gif": gif, "--html": html}
    others = [name for name, is_on in {**pictures, "--full": full}.items() if is_on]
    if images and sheet:
        raise typer.BadParameter("--grid takes random images of a data set, not files")
    if sheet and (others or limit):
        raise typer.BadParameter(f"--grid draws one sheet: leave out {', '.join(others) or '--limit'}")
    if full and len(others) > 1:
        raise typer.BadParameter(f"--full is for pictures of single maps: leave it out, or {', '.join(others[:-1])}")
    if (score or check) and (others or sheet):
        raise typer.BadParameter(f"--score and --check draw nothing: leave out {', '.join(others) or '--grid'}")
    if not images and not (dataset or split or sheet or score or check):
        raise typer.BadParameter(
            "give IMAGE..., or --split test for images of the data set that the model was trained on"
        )

    # Refuse names and paths that do not exist, before torch is imported
    chosen_layers = read_numbers(layers, "--layers", example="0,1,-1")
    chosen_heads = read_numbers(heads, "--heads", example="0,1,-1")
    from vitcli.data.image_files import image_files
    from vitcli.data.store import check_dataset
    from vitcli.figures.attention_style import Style
    from vitcli.trained.model_names import check_model

    style = Style(cmap=cmap, alpha=alpha, norm=norm, interp=interp, min_size=min_size, dpi=dpi, font_size=font_size)
    sheets = {"--compare": compare, "--heads-grid": heads_grid, "--blocks": blocks, "--grid": sheet}
    _refuse_without_effect(style, arrays, draws=not (score or check), sheets=[name for name in sheets if sheets[name]])
    parse_methods(methods or ())
    image_files(images or ())
    check_model(model, output_dir=output_dir, device=device)
    check_dataset(dataset, output_dir=output_dir)

    # Collect the options in three values: the source of images, the wanted maps, and the drawing
    with importing():
        from vitcli.attention.evidence import Options
        from vitcli.explaining.images import ImageSource
        from vitcli.explaining.pictures import Drawing
        from vitcli.explaining.wanted import Wanted
        from vitcli.workflows.attention_map import attention_maps
        from vitcli.workflows.attention_trust import judge_attention
    with listening() as emit:
        source = ImageSource(
            inputs=images or (),
            model=model,
            dataset=dataset,
            split=split or "auto",
            limit=sheet or limit,
            seed=seed,
            output_dir=output_dir,
            directory=data_dir,
            device=device,
            offline=offline,
        )
        wanted = Wanted(
            methods=tuple(methods or ()),
            classes=tuple(classes or ()),
            score=target,
            layers=chosen_layers,
            heads=chosen_heads,
            options=Options(fusion=head_fusion, discard=discard, mass=mass),
            query=query,
            steps=steps,
        )
        drawing = Drawing(
            compare=compare,
            heads_grid=heads_grid,
            blocks=blocks,
            gif=gif,
            page=html,
            full=full,
            style=style,
            arrays=arrays,
        )
        if score or check:
            trust = judge_attention(source, wanted, scores=score, checks=check, output=output, emit=emit)
        else:
            report = attention_maps(source, wanted, drawing, sheet=bool(sheet), output=output, emit=emit)
    if score or check:
        show_trust(trust, as_json=as_json)
        return
    print_json(report) if as_json else show_report(report)
    if any(each.error for each in report.images):
        raise typer.Exit(1)


def _refuse_without_effect(style: "Style", arrays: str, *, draws: bool, sheets: list[str]) -> None:
    """Raise BadParameter for an option of pictures that changes nothing."""
    changed = [
        f"--{each.name.replace('_', '-')}" for each in fields(style) if getattr(style, each.name) != each.default
    ]
    changed += ["--arrays"] * (arrays != "npz")
    if changed and not draws:
        raise typer.BadParameter(f"--score and --check draw nothing: leave out {', '.join(changed)}")
    if sheets and "--min-size" in changed:
        raise typer.BadParameter(f"--min-size does not change the pictures of {sheets[0]}: leave it out")
