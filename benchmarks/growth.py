"""Measure how time and memory grow with tokens, width, depth and batch of a model, and with the input of commands.

    uv run python benchmarks/growth.py --output growth
    uv run python benchmarks/growth.py --only tokens predict --output growth

Writes growth.json and growth.png. Time and, on a GPU, memory of each size are measured by the functions behind
``vit bench``; all sizes of a sweep take turns, so that other work on the machine affects all in the same way. Growth is the exponent e of
time ~ size^e: the slope of a line through the three largest sizes on logarithmic axes, where what is done once for all
sizes matters least; the slope of all sizes is given too. Each has a limit, and the last column says if it is kept. A
margin of 0.15 allows for noise and for caches, which large sizes no longer fit into.

tokens: images of growing size. Attention alone is quadratic. The rest of the model is measured with attention replaced
    by its values; it must be linear. Fused kernels never store the attention of all tokens, so memory must be linear.
width: matrices have width^2 weights, so at most quadratic.
depth, batch: linear.
predict: the files of a folder, 64 x 64 pixels; eval: the metrics of 2,000 random predictions, over the number of
    classes, in which all probabilities are linear; runs: the list of so many runs. All must be linear.
start: `vit --help` in a process of its own, for which there is no size.

A training step is that of ``vit bench``. The base of the model sweeps has width 192, 4 blocks, 64 tokens and batch 4.
One thread is used, because two would wait for each other on cores that other processes also use.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

import vitcli
from vitcli.core.files import write_json
from vitcli.core.model_config import ModelConfig
from vitcli.engine.alternation import seconds
from vitcli.engine.autocast import Precision
from vitcli.engine.benchmark import Step, measure_in_turn, our_inference, our_training
from vitcli.engine.device import choose_device, describe
from vitcli.engine.hardware import hardware, library_versions
from vitcli.figures.canvas import new_figure, save_figure, set_title
from vitcli.judging.answers import AnswerCollector
from vitcli.judging.metrics import metrics_of
from vitcli.models.layers import Attention
from vitcli.models.vit import VisionTransformer
from vitcli.workflows.predict import predict
from vitcli.workflows.runs import list_runs

MARGIN = 0.15
LAST, ENOUGH = 3, 2**21
"""The number of largest sizes whose slope is compared with the limit; the least bytes whose growth can be measured."""
WIDTH, DEPTH, PATCH, SIDE, BATCH = 192, 4, 16, 8, 4
"""The base of the sweeps of a model; the side of an image is counted in patches."""
SIDES, WIDTHS = (4, 6, 8, 12, 16, 24), (64, 128, 256, 384, 512, 768)
DEPTHS, BATCHES = (1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32)
FILES, CLASSES, RUNS = (1, 10, 100, 1000), (2, 10, 100, 1000, 3000), (1, 10, 100, 1000)
PREDICTIONS = 2000


@dataclass(frozen=True)
class Line:
    """The measurements of one kind of work over its sizes."""

    sweep: str
    work: str
    limit: float
    """The largest exponent that is expected of time, and of memory."""
    memory_limit: float
    sizes: Sequence[int]
    seconds: Sequence[float]
    """The median of each size."""
    memory: Sequence[int | None]
    """The bytes by which the memory peak rose, of each size."""

    def facts(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        grows, largest = slope(self.sizes[-LAST:], self.seconds[-LAST:]), [each or 0 for each in self.memory[-LAST:]]
        fills = slope(self.sizes[-LAST:], largest) if min(largest) > ENOUGH else None
        return {
            **vars(self),
            "exponent": grows,
            "exponent_of_all": slope(self.sizes, self.seconds),
            "memory_exponent": fills,
            "is_kept": grows <= self.limit + MARGIN and (fills is None or fills <= self.memory_limit + MARGIN),
        }


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Fit the exponent of a power law."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def measured(
    sweep: str,
    builds: Mapping[tuple[str, int], Callable[[], Step]],
    *,
    limits: Mapping[str, tuple[float, float]],
    options: argparse.Namespace,
) -> list[Line]:
    """Measure all sizes of a sweep in turn; ``builds`` is by kind of work and size, ``limits`` of time and memory."""
    found = measure_in_turn(
        {f"{work} {size}": build for (work, size), build in builds.items()},
        device=options.device,
        one_by_one=True,
        rounds=options.rounds,
        seconds=options.seconds,
    )
    lines = []
    for work, (limit, memory_limit) in limits.items():
        each = {size: found[f"{name} {size}"] for name, size in builds if name == work}
        fitting = {size: one for size, one in each.items() if not one.error}
        times = [statistics.median(one.rounds) for one in fitting.values()]
        memory = [one.peak_memory for one in fitting.values()]
        lines.append(Line(sweep, work, limit, memory_limit, [*fitting], times, memory))
    return lines


# Sweeps of a model


def config_of(*, side: int = SIDE, width: int = WIDTH, depth: int = DEPTH) -> ModelConfig:
    """Build the configuration of a model whose heads have 64 features."""
    size = (side * PATCH,) * 2
    return ModelConfig(
        image_size=size, num_classes=10, width=width, depth=depth, num_heads=width // 64, mlp_width=4 * width
    )


def step_of(
    config: ModelConfig, options: argparse.Namespace, *, batch: int = BATCH, trains: bool = True, attends: bool = True
) -> Step:
    """Build a step; without attention, each token keeps its own values."""
    device = options.device
    model = VisionTransformer(config).to(device)
    for module in model.modules():
        if isinstance(module, Attention) and not attends:
            module.attend = lambda queries, _keys, values, _dropout: values[:, :, : queries.shape[2]]
    images = torch.randn(batch, config.in_channels, *config.image_size, device=device)
    precision = Precision(device, amp="off", dtype="float32")
    if trains:
        return our_training(model, images, torch.zeros(batch, dtype=torch.int64, device=device), precision)
    return our_inference(model, images, precision)


def attention_alone(config: ModelConfig, options: argparse.Namespace) -> Step:
    """Build the attention of all blocks, forward and backward."""
    shape = (BATCH, config.num_heads, config.grid[0] * config.grid[1] + 1, config.width // config.num_heads)
    queries, keys, values = (torch.randn(shape, device=options.device).requires_grad_() for _ in range(3))

    def step() -> None:
        for _ in range(config.depth):
            F.scaled_dot_product_attention(queries, keys, values).sum().backward()

    return step


def tokens(options: argparse.Namespace) -> list[Line]:
    """Sweep the number of tokens."""
    builds: dict[tuple[str, int], Callable[[], Step]] = {}
    for side in SIDES:
        config = config_of(side=side)
        builds["training", side**2] = partial(step_of, config, options)
        builds["training without attention", side**2] = partial(step_of, config, options, attends=False)
        builds["attention alone", side**2] = partial(attention_alone, config, options)
        builds["inference", side**2] = partial(step_of, config, options, trains=False)
    limits = dict.fromkeys(("training", "attention alone", "inference"), (2.0, 1.0))
    limits["training without attention"] = (1.0, 1.0)
    return measured("tokens", builds, limits=limits, options=options)


def of_model(sweep: str, options: argparse.Namespace) -> list[Line]:
    """Sweep the width, the depth or the batch."""
    sizes = {"width": WIDTHS, "depth": DEPTHS, "batch": BATCHES}[sweep]
    builds: dict[tuple[str, int], Callable[[], Step]] = {}
    for work in ("training", "inference"):
        for size in sizes:
            config = config_of() if sweep == "batch" else config_of(**{sweep: size})
            batch = size if sweep == "batch" else BATCH
            builds[work, size] = partial(step_of, config, options, batch=batch, trains=work == "training")
    limit = 2.0 if sweep == "width" else 1.0
    return measured(sweep, builds, limits=dict.fromkeys(("training", "inference"), (limit, limit)), options=options)


# Sweeps of commands


def predictions(options: argparse.Namespace) -> list[Line]:
    """Sweep the files of ``vit predict``."""
    random, folder, runs = np.random.default_rng(0), options.folder / "files", trained(options)

    def build(count: int) -> Step:
        place = folder / str(count)
        place.mkdir(parents=True)
        for number in range(count):
            pixels: NDArray[np.uint8] = random.integers(256, size=(64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{number}.png")
        return lambda: predict([str(place)], output_dir=runs, device=str(options.device))

    builds = {("predict", count): partial(build, count) for count in [*FILES, *options.files]}
    return measured("files", builds, limits={"predict": (1.0, 1.0)}, options=options)


def evaluation(options: argparse.Namespace) -> list[Line]:
    """Sweep the classes of the metrics of ``vit eval``."""

    def build(classes: int) -> Step:
        logits, truth = torch.randn(PREDICTIONS, classes), torch.arange(PREDICTIONS) % classes

        def step() -> None:
            collector = AnswerCollector(tuple(map(str, range(classes))))
            collector.add(logits, truth)
            metrics_of(collector.answers())

        return step

    builds = {("metrics of eval", classes): partial(build, classes) for classes in CLASSES}
    return measured("classes", builds, limits={"metrics of eval": (1.0, 1.0)}, options=options)


def listing(options: argparse.Namespace) -> list[Line]:
    """Sweep the runs of ``vit runs``."""
    (run,) = trained(options).iterdir()

    def build(count: int) -> Step:
        place = options.folder / "listed" / str(count)
        for number in range(count):
            copy = place / f"run-{number}"
            copy.mkdir(parents=True)
            for file in run.glob("*.json"):
                shutil.copy(file, copy)
        return lambda: list_runs(place)

    builds = {("runs", count): partial(build, count) for count in RUNS}
    return measured("runs", builds, limits={"runs": (1.0, 1.0)}, options=options)


def trained(options: argparse.Namespace) -> Path:
    """Train a small model on the digits once, and return the folder of its run."""
    runs: Path = options.folder / "experiments"
    if not runs.exists():
        vitcli.train("digits", epochs=1, amp="off", output_dir=runs, data_dir=options.folder / "data", quiet=True)
    return runs


SWEEPS: dict[str, Callable[[argparse.Namespace], list[Line]]] = {
    "tokens": tokens,
    "width": partial(of_model, "width"),
    "depth": partial(of_model, "depth"),
    "batch": partial(of_model, "batch"),
    "predict": predictions,
    "eval": evaluation,
    "runs": listing,
}


def draw(lines: Sequence[Line], path: Path, title: str) -> None:
    """Draw time and memory of every sweep on logarithmic axes."""
    sweeps = list(dict.fromkeys(line.sweep for line in lines))
    figure = new_figure(3.2 * len(sweeps), 6)
    set_title(figure, title)
    rows = figure.subplots(2, len(sweeps), squeeze=False)
    for column, sweep in enumerate(sweeps):
        for axes, what in zip(rows[:, column], ("seconds", "memory"), strict=True):
            for line in (each for each in lines if each.sweep == sweep):
                exponent = line.facts()["exponent" if what == "seconds" else "memory_exponent"]
                values = line.seconds if what == "seconds" else [(value or 0) / 1e6 for value in line.memory]
                label = line.work if exponent is None else f"{line.work}: {exponent:.2f}"
                axes.loglog(line.sizes, values, "o-", markersize=3, label=label)
                axes.set_xticks(line.sizes, labels=[f"{size:,}" for size in line.sizes], fontsize=7)
            axes.minorticks_off()
            axes.set(xlabel=sweep, ylabel="seconds" if what == "seconds" else "memory (MB)")
            axes.grid(alpha=0.3)
            axes.legend(fontsize=6)
    save_figure(figure, path)


def main() -> None:
    """Measure the sweeps, print their exponents, and write both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*SWEEPS], default=[*SWEEPS])
    parser.add_argument("--output", type=Path, default=Path("growth"), help="name of the files, without .json and .png")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds for each size")
    parser.add_argument("--files", type=int, nargs="*", default=[], help="more numbers of files, for example 10000")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=choose_device, default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    step_of(config_of(side=2, width=64, depth=1), options)()  # loads libraries
    start = [sys.executable, "-m", "vitcli", "--help"]
    help_seconds = statistics.median(
        seconds(partial(subprocess.run, start, capture_output=True, check=True)) for _ in range(options.rounds)
    )
    lines: list[Line] = []
    with tempfile.TemporaryDirectory() as folder:
        options.folder = Path(folder)
        for name in options.only:
            lines += (found := SWEEPS[name](options))
            for line in found:
                facts = line.facts()
                fills = "-" if facts["memory_exponent"] is None else f"{facts['memory_exponent']:.2f}"
                print(
                    f"{line.sweep:8} {line.work:28} time {facts['exponent']:5.2f} (all {facts['exponent_of_all']:5.2f}, limit"
                    f" {line.limit:g}), memory {fills:>5} (limit {line.memory_limit:g})"
                    f"  {'kept' if facts['is_kept'] else 'EXCEEDED'}",
                    flush=True,
                )
    print(f"vit --help: {help_seconds:.2f} s")
    machine: dict[str, Any] = {
        "device": describe(options.device),
        "hardware": hardware(),
        "versions": library_versions(),
    }
    figures = {"help_seconds": help_seconds, "lines": [line.facts() for line in lines]}
    write_json(options.output.with_suffix(".json"), machine | figures)
    draw(lines, options.output.with_suffix(".png"), f"Growth of time and memory on {machine['device']}, with exponents")


if __name__ == "__main__":
    main()
