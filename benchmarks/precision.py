"""Compare float32, bfloat16 and compiled models, a small and a larger one, and show what `--amp auto` chooses.

    uv run python benchmarks/precision.py
    uv run python benchmarks/precision.py --compile      (takes minutes on a CPU)

A training step is forward, backward and AdamW; inference is the forward pass of `vit eval`. Rounds alternate between
the variants, so that other work on the machine affects all in the same way. The medians and their ratios to float32
are printed. `auto` is right if it chooses the faster precision, or if both are nearly equally fast.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

from vitcli.core.events import ignore
from vitcli.core.model_config import ModelChoice
from vitcli.engine.autocast import Precision
from vitcli.engine.compiling import Forward, compiled
from vitcli.engine.device import choose_device, describe, has_bfloat16
from vitcli.engine.micro_batches import MicroBatches
from vitcli.engine.timing import Work
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer
from vitcli.trained.precision import choose_precision

MODELS = {"vit-nano-patch4": (32, 128), "vit-tiny-patch16": (224, 8)}
"""The 119k CIFAR model and a model of DeiT-tiny's shape: image size, and images per step on a CPU; a GPU gets 16 times
as many."""


def step_of(
    model: VisionTransformer, forward: Forward, images: torch.Tensor, work: Work, precision: Precision
) -> Callable[[], None]:
    """Return a function that takes one step, and waits for the device."""
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)

    def train() -> None:
        optimizer.zero_grad()
        with precision.autocast():
            loss = F.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()

    def infer() -> None:
        with torch.inference_mode(), precision.autocast():
            forward(images)

    def step() -> None:
        model.train(work == "training")
        (train if work == "training" else infer)()
        if images.device.type == "cuda":
            torch.cuda.synchronize()

    return step


def medians(steps: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Measure the median seconds of a step of each variant."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def main() -> None:
    """Measure all models and variants, and print the speeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    native = "computes in bfloat16" if has_bfloat16(device) else "emulates bfloat16"
    print(f"{describe(device)}, which {native}; torch {torch.__version__}")
    os.environ["VIT_DATA_DIR"] = tempfile.mkdtemp()  # so that `auto` measures again
    precisions = {
        name: Precision(device, amp=amp, dtype="bfloat16") for name, amp in (("float32", "off"), ("bfloat16", "on"))
    }
    works: tuple[Work, ...] = ("training", "inference")
    for name, (size, batch) in MODELS.items():
        torch.manual_seed(0)
        config = model_config(ModelChoice(name=name), image_size=(size, size), in_channels=3, num_classes=10)
        model = VisionTransformer(config).to(device)
        images = torch.randn(batch * (16 if device.type == "cuda" else 1), 3, size, size, device=device)
        for work in works:
            steps = {each: step_of(model, model, images, work, precision) for each, precision in precisions.items()}
            if arguments.compile and work == "training":
                for each, precision in precisions.items():
                    micro_batches = MicroBatches(1, emit=ignore)
                    fast = compiled(model, [images], precision, micro_batches=micro_batches, required=True, emit=ignore)
                    assert fast is not None
                    steps[f"{each}, compiled"] = step_of(model, fast, images, work, precision)
            started = time.perf_counter()
            chosen = choose_precision(model, work=work, batch=len(images))
            took = time.perf_counter() - started
            print(f"\n{name}, {size} pixels, {work}, {len(images)} images; auto: {chosen.name}, after {took:.2f} s")
            seconds = medians(steps, arguments.rounds)
            for each, median in seconds.items():
                ratio = seconds["float32"] / median
                print(f"  {each:20} {len(images) / median:9,.1f} images/s  {ratio:5.2f} times as fast as float32")


if __name__ == "__main__":
    main()
