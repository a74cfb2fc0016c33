"""Measure the savings and the cost of gradient checkpointing: a training step of ViT-tiny at 224 pixels.

    uv run python benchmarks/memory.py

There are two figures of memory: the bytes that are kept for the backward pass of one batch (counted tensor by tensor,
without weights and images), and the peak of a process that only takes steps, minus its memory before the first step.
Steps with and without recomputation alternate in one process, so that other work on the machine affects both in the
same way. The ratio of the medians is printed.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from vitcli.core.model_config import ModelChoice
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer

SIZE = (224, 224)


def build(name: str, *, recomputes: bool) -> VisionTransformer:
    """Build a model in training mode."""
    torch.manual_seed(0)
    config = model_config(ModelChoice(name=name), image_size=SIZE, in_channels=3, num_classes=1000)
    model = VisionTransformer(config)
    model.grad_checkpointing = recomputes
    return model.train()


def step(model: VisionTransformer, images: Tensor) -> None:
    """Run a forward and a backward pass."""
    model.zero_grad()
    F.cross_entropy(model(images), torch.arange(len(images))).backward()


def bytes_kept(model: VisionTransformer, images: Tensor) -> int:
    """Count the bytes that are kept for the backward pass."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), images)}
    kept: dict[int, Tensor] = {}  # tensors, so that none is freed while others are counted

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            kept[place] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model(images)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def peak_of_steps(name: str, batch: int, *, recomputes: bool) -> int:
    """Measure how many bytes the memory peak of a new process grows by while it takes two steps."""
    words = [sys.executable, __file__, "--model", name, "--batch", str(batch), "--peak", str(int(recomputes))]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # freed memory is returned to the system
    return int(subprocess.run(words, capture_output=True, text=True, check=True, env=environment).stdout)


def print_own_peak(name: str, batch: int, *, recomputes: bool) -> None:
    """Take two steps, and print by how many bytes this process's memory peak grew; Linux only."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def kibibytes(name: str) -> int:
        return int(next(line for line in status.read_text().splitlines() if line.startswith(name)).split()[1])

    model = build(name, recomputes=recomputes)
    step(model, torch.randn(1, 3, *SIZE))  # loads libraries, and creates gradients
    images = torch.randn(batch, 3, *SIZE)
    reset.write_text("5")  # resets the peak
    before = kibibytes("VmRSS")
    for _ in range(2):
        step(model, images)
    print(1024 * (kibibytes("VmHWM") - before))


def main() -> None:
    """Measure memory and time with and without recomputation, and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vit-tiny-patch16")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peak", type=int, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    name, batch = arguments.model, arguments.batch
    if arguments.peak is not None:
        print_own_peak(name, batch, recomputes=bool(arguments.peak))
        return
    models = {recomputes: build(name, recomputes=recomputes) for recomputes in (False, True)}
    images = torch.randn(batch, 3, *SIZE)
    kept = {recomputes: bytes_kept(model, images) for recomputes, model in models.items()}
    peaks = {recomputes: peak_of_steps(name, batch, recomputes=recomputes) for recomputes in models}
    seconds: dict[bool, list[float]] = {recomputes: [] for recomputes in models}
    for number in range(arguments.rounds + 1):
        for recomputes, model in models.items():
            started = time.perf_counter()
            step(model, images)
            if number:  # the first round warms up
                seconds[recomputes].append(time.perf_counter() - started)
    same = all(
        torch.equal(a.grad, b.grad) for a, b in zip(*(model.parameters() for model in models.values()), strict=True)
    )
    medians = {recomputes: statistics.median(times) for recomputes, times in seconds.items()}
    print(f"{name}, batch {batch}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for recomputes, label in ((False, "plain"), (True, "--grad-checkpointing")):
        print(
            f"{label:22} keeps {kept[recomputes] / 2**20:6,.0f} MiB, peak {peaks[recomputes] / 2**20:6,.0f} MiB,"
            f" {medians[recomputes]:.2f} s a step"
        )
    print(
        f"keeps 1/{kept[False] / kept[True]:.1f}, peak 1/{peaks[False] / peaks[True]:.1f},"
        f" {medians[True] / medians[False]:.2f} times the time; gradients the same to the bit: {same}"
    )


if __name__ == "__main__":
    main()
