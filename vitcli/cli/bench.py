"""The command ``vit bench``."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vitcli.cli.console import listening, print_facts, print_json, print_table, stderr, stdout
from vitcli.cli.options import EXPERIMENTS, DeviceOption, JsonOption, OfflineOption, OutputDirOption
from vitcli.cli.usage_errors import read_numbers
from vitcli.core.config_files import configure, layers_of
from vitcli.core.errors import UsageError, check_choice, counted
from vitcli.core.files import bytes_in_words
from vitcli.core.importing import importing
from vitcli.core.preprocessing import format_size
from vitcli.core.words import percent
from vitcli.models.registry import with_sizes

if TYPE_CHECKING:
    from vitcli.workflows.bench import BenchResult, BenchRow

_PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Short names of precisions."""
_UNEVEN = 1.3
"""The fastest round, as a multiple of the slowest, from which on a measurement is called uneven."""


def bench(
    model: Annotated[
        str,
        typer.Argument(
            help="A name of `vit models`, a run, best, a file of weights, or a name of `vit download`.",
            show_default="newest finished run, else vit-nano-patch4",
        ),
    ] = "",
    batch_size: Annotated[
        str,
        typer.Option(
            "--batch-size", "-b", help="Images per batch, e.g. 1,16,64.", show_default="1,16; on a GPU 1,64,256"
        ),
    ] = "",
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="fp32, bf16 or fp16, or several: fp32,bf16.",
            show_default="fp32, and bf16 if the device has it",
        ),
    ] = "",
    work: Annotated[
        Literal["training", "inference"] | None,
        typer.Option("--work", help="Measure only training, or only inference.", show_default="both"),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option("--image-size", help="Model input in pixels: 32, or HEIGHTxWIDTH.", show_default="the model's"),
    ] = None,
    classes: Annotated[
        int | None, typer.Option("--classes", min=1, help="Number of classes.", show_default="the model's")
    ] = None,
    against: Annotated[
        str,
        typer.Option(
            "--against",
            help="Measure the same architecture of timm, torchvision or transformers in turn, or of several: timm,torchvision.",
            show_default=False,
        ),
    ] = "",
    compile_: Annotated[
        Literal["on", "off"], typer.Option("--compile", help="Compile the models for training with torch.compile.")
    ] = "off",
    seconds: Annotated[
        float, typer.Option("--seconds", min=0, help="Time for each measurement, without warm-up.")
    ] = 2.0,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of each measurement.")] = 5,
    output_dir: OutputDirOption = EXPERIMENTS,
    device: DeviceOption = "auto",
    offline: OfflineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on this machine: images per second, latency, memory of a GPU, and the share of the device's peak.

    The weights are random, because they do not influence the speed. --against compares with other libraries.
    """
    # Refuse names and numbers that make no sense, before torch is imported
    from vitcli.models.counterparts import check_libraries
    from vitcli.models.registry import MODELS
    from vitcli.trained.model_names import check_model

    sizes = read_numbers(batch_size, "--batch-size", example="1,16")
    if any(size < 1 for size in sizes):
        raise UsageError(f"--batch-size {batch_size} has a number below 1", hint="for example --batch-size 1,16")
    precisions = [_PRECISIONS.get(name, name) for name in _listed(precision)]
    for name in precisions:
        check_choice("--precision", name, [*_PRECISIONS, *_PRECISIONS.values()])
    libraries = _listed(against)
    check_libraries(libraries)
    changes = _changes(image_size, classes)
    check_model(model, output_dir=output_dir, device=device, architectures=MODELS)

    with importing():
        from vitcli.workflows.bench import bench as bench_workflow
    with listening() as emit:
        result = bench_workflow(
            model,
            batch_sizes=sizes,
            precisions=precisions,
            work=work,
            changes=changes,
            against=libraries,
            compiles=compile_ == "on",
            seconds=seconds,
            rounds=rounds,
            output_dir=output_dir,
            device=device,
            offline=offline,
            emit=emit,
        )
    print_json(result) if as_json else _show(result)
    if uneven := [row for row in result.rows if row.fastest and row.slowest and row.fastest > _UNEVEN * row.slowest]:
        stderr().print(
            f"[dim]{len(uneven)} of {len(result.rows)} measurements are uneven: their fastest round was more than"
            f" {_UNEVEN} times as fast as the slowest. End other programs, or measure longer: --seconds 10[/]"
        )


def _changes(image_size: str | None, classes: int | None) -> Mapping[str, Any]:
    """Read the fields of the model's configuration that the options change."""
    try:
        size = configure(*layers_of({"model": {"image_size": image_size}})).model.changes
    except UsageError:
        hint = "for example --image-size 32, or 32x48"
        raise UsageError(f"--image-size {image_size!r} is not a size in pixels", hint=hint) from None
    return {**size, **({} if classes is None else {"num_classes": classes})}


def _listed(text: str) -> tuple[str, ...]:
    """Split a list of names, separated by commas."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _show(result: "BenchResult") -> None:
    """Print the facts, a table for each kind of work and precision, and the comparison."""
    measured = [f"{_operations(peak)}/s in {name}" for name, peak in result.peaks.items()]
    peaks = [f"{', '.join(measured)}, of a large matrix product"] if measured else []
    if emulated := dict.fromkeys(row.precision for row in result.rows if row.precision not in result.peaks):
        peaks.append(f"none in {' and '.join(emulated)}, which this device only emulates")
    print_facts(
        {
            "model": f"{with_sizes(result.model, result.changed_sizes)}, {result.parameters:,} parameters",
            "images": f"{format_size(result.image_size)} pixels, {counted(result.channels, 'channel')}, {counted(result.classes, 'class')}",
            "device": result.device,
            "cost": f"{_operations(result.flops)} for an image, 3 times as much in training",
            "peak": "; ".join(peaks),
        }
    )
    compares = len({row.library for row in result.rows}) > 1
    for (work, precision), rows in groupby(result.rows, lambda row: (row.work, row.precision)):
        is_compiled = result.compiled and work == "training"
        stdout().print(f"\n[bold]{work}[/], {precision}{', compiled' if is_compiled else ''}")
        _print_rows([*rows], compares=compares, has_latency=work == "inference")
    if compares:
        stdout().print("\n[bold]compared[/]: the speed of vit divided by that of the library; above 1, vit is faster")
        cells = [
            (
                row.library,
                f"{row.work}, {row.precision}",
                f"{row.batch_size:,}",
                *(f"{value:.2f}" for value in (row.ratio.of_medians, row.ratio.least, row.ratio.most)),
            )
            for row in result.rows
            if row.ratio
        ]
        print_table(("library", "work", "batch", "medians", "least", "most"), cells, numbers=range(2, 6))


def _print_rows(rows: "Sequence[BenchRow]", *, compares: bool, has_latency: bool) -> None:
    """Print the rows of one kind of work and precision."""
    headings = ["batch", *(["library"] if compares else []), "images/s"]
    headings += ["p50 ms", "p90 ms", "p99 ms"] if has_latency else []
    has_memory = any(row.peak_memory is not None for row in rows)
    headings += [*(["memory"] if has_memory else []), "of peak"]
    cells = []
    for row in rows:
        latency = row.latency
        times = (latency.p50, latency.p90, latency.p99) if latency else (None,) * 3
        cells.append(
            [
                f"{row.batch_size:,}",
                *([row.library] if compares else []),
                row.error if row.images_per_second is None else _rounded(row.images_per_second),
                *((_rounded(value and 1000 * value) for value in times) if has_latency else ()),
                *(["-" if row.peak_memory is None else bytes_in_words(row.peak_memory)] if has_memory else []),
                "-" if row.of_peak is None else percent(row.of_peak),
            ]
        )
    print_table(headings, cells, numbers=[at for at, heading in enumerate(headings) if heading != "library"])


def _rounded(value: float | None) -> str:
    """Write a number with about three digits; ``-``: too few calls tell it."""
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _operations(count: float) -> str:
    """Write a number of floating-point operations in words."""
    unit, size = next(
        each for each in (("TFLOP", 1e12), ("GFLOP", 1e9), ("MFLOP", 1e6)) if count >= each[1] or each[1] == 1e6
    )
    return f"{count / size:.3g} {unit}"
