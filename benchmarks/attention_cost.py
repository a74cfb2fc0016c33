"""Measure the cost of attention maps in forward passes of the same model: DeiT-tiny at 224 pixels, random weights.

    uv run python benchmarks/attention_cost.py

The unit is a plain forward pass of 8 images in inference mode; methods and forward passes alternate, and their
medians are compared. Then the peak memory of one batch is measured, without weights and input, for the last layer,
the last four layers and all layers. Each further layer must not add more memory than its attention probabilities
take. Methods with gradients also need, once, the memory of a block that is computed again with all its tokens; of the
last block they read only a few tokens. Last, the command itself explains folders of 50 and of 500 images: the process
must need the same memory for both. Memory is what Linux counts for a whole process, which is set to return freed
memory to the system at once.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vitcli.attention.registry import EVERY_METHOD
from vitcli.core.model_config import ModelConfig
from vitcli.explaining.explainer import explain
from vitcli.explaining.question import Question
from vitcli.models.vit import VisionTransformer

BATCH = 8
MEMORY = ("classic", "rollout", "relevance", "grad-rollout", "legrad")
"""Methods that use attention of all layers."""
SOME = 4
"""The number of layers from which each further layer costs the same memory."""
GIVING_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Settings of the C library's allocator, so that the memory peak is the peak of the memory in use."""


def deit_tiny() -> VisionTransformer:
    """Build DeiT-tiny as published, but with random weights."""
    torch.manual_seed(0)
    config = ModelConfig(
        image_size=(224, 224), patch_size=(16, 16), num_classes=1000, width=192, depth=12, num_heads=3, mlp_width=768
    )
    return VisionTransformer(config).eval()


def calls(
    model: VisionTransformer, images: torch.Tensor, layers: tuple[int, ...] = ()
) -> dict[str, Callable[[], object]]:
    """Return the functions to measure, for the given layers or for the default layers of each method."""

    def forward() -> object:
        with torch.inference_mode():
            return model(images)

    def explaining(method: str) -> Callable[[], object]:
        return lambda: explain(model, images, Question(methods=(method,), layers=layers))

    return {"forward": forward, **{method: explaining(method) for method in EVERY_METHOD}}


def compare(rounds: int) -> None:
    """Measure the cost of every method, and print it in forward passes."""
    work = calls(deit_tiny(), torch.randn(BATCH, 3, 224, 224))
    times: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, call in work.items():
            started = time.perf_counter()
            call()
            if number:  # the first round warms up
                times[name].append(time.perf_counter() - started)
    base = statistics.median(times["forward"])
    print(f"forward pass of {BATCH}: {1000 * base:.0f} ms")
    for name in EVERY_METHOD:
        print(f"{name:13} {statistics.median(times[name]) / base:5.2f} forward passes")


def megabytes(field: str) -> float:
    """Read the memory of this process as Linux counts it: VmRSS is the current memory, VmHWM the peak."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def measure_memory(name: str, layers: int) -> None:
    """Print how much more memory a call needs at its peak than weights and input take; runs in its own process."""
    torch.set_num_threads(1)
    model, images = deit_tiny(), torch.randn(BATCH, 3, 224, 224)
    work = calls(model, images, tuple(range(model.config.depth))[-layers:])
    work["forward"]()
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = megabytes("VmRSS")
    work[name]()
    print(megabytes("VmHWM") - before)


def compare_memory() -> None:
    """Print the memory that every method needs for one layer, for some and for all, and what each layer adds."""
    config = deit_tiny().config
    tokens = config.grid[0] * config.grid[1] + config.num_prefix_tokens
    print(f"attention probabilities of a layer take {BATCH * config.num_heads * tokens**2 * 4 / 2**20:.1f} MB")

    def peak(name: str, layers: int) -> float:
        command = [sys.executable, __file__, "--memory", name, "--layers", str(layers)]
        environment = {**os.environ, **GIVING_BACK}
        return float(subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout)

    print(f"{'forward':13} {peak('forward', 1):4.0f} MB at the peak")
    for name in MEMORY:
        one, some, every = (peak(name, layers) for layers in (1, SOME, config.depth))
        print(
            f"{name:13} {one:4.0f} MB for the last layer, {some:4.0f} MB for {SOME}, {every:4.0f} MB for {config.depth}:"
            f" {(every - some) / (config.depth - SOME):.1f} MB per further layer"
        )


def measure_folder() -> None:
    """Print the time and the memory peak of the whole command for 50 and for 500 images."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(0)
        for number in range(500):
            pixels = random.integers(0, 256, (8, 8), dtype=np.uint8)
            for count in (50, 500):
                if number < count:
                    path = folder / f"{count}" / f"{number:03d}.png"
                    path.parent.mkdir(exist_ok=True)
                    Image.fromarray(pixels).save(path)
        vit = [sys.executable, "-m", "vitcli"]
        runs = ["--output-dir", str(folder / "runs")]
        subprocess.run([*vit, "train", "digits", "--epochs", "1", *runs], check=True, capture_output=True)
        for count in (50, 500):
            command = [*vit, "attention-map", str(folder / f"{count}"), *runs, "-o", str(folder / f"maps-{count}")]
            started = time.perf_counter()
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
            assert process.returncode == 0
            print(f"{count} images: {time.perf_counter() - started:.0f} s, {usage.ru_maxrss / 1024:.0f} MB at the peak")


def main() -> None:
    """Measure the cost in time and memory, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", metavar="METHOD", help="measure one call in this process")
    parser.add_argument("--layers", type=int, default=1, help="number of layers of that call, counted from the last")
    arguments = parser.parse_args()
    if arguments.memory:
        measure_memory(arguments.memory, arguments.layers)
        return
    compare(arguments.rounds)
    compare_memory()
    measure_folder()


if __name__ == "__main__":
    main()
