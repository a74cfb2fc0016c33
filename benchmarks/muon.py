"""Compare a training step with Muon on a CPU in float32, which ``vit`` uses for Newton-Schulz there, and in bfloat16.

    uv run python benchmarks/muon.py

The forward and backward pass of a batch are timed, and the Newton-Schulz iterations of all matrices of the model's
blocks in both precisions. They alternate, so that other work on the machine affects all in the same way. The medians
are printed, and the ratio of a step in bfloat16 to a step in float32 (above 1: float32 is faster).
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from vitcli.core.model_config import ModelChoice, ModelConfig
from vitcli.engine.device import describe, has_bfloat16
from vitcli.engine.muon import newton_schulz
from vitcli.models.registry import model_config
from vitcli.models.vit import VisionTransformer

CASES = (("vit-nano-patch4", 32, 128), ("vit-micro-patch4", 32, 128), ("vit-tiny-patch16", 224, 32))
"""Model, image size in pixels, images of a batch."""


def main() -> None:
    """Measure all models, and print the times and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    cpu = torch.device("cpu")
    print(f"{describe(cpu)}, which {'computes in' if has_bfloat16(cpu) else 'emulates'} bfloat16")
    for name, pixels, batch in CASES:
        config = model_config(ModelChoice(name=name), image_size=(pixels, pixels), in_channels=3, num_classes=10)
        matrices = block_matrices(config)
        work: dict[str, Callable[[], None]] = {
            "passes": forward_and_backward(config, batch),
            "float32": partial(orthogonalise_all, matrices, torch.float32),
            "bfloat16": partial(orthogonalise_all, matrices, torch.bfloat16),
        }
        seconds: dict[str, list[float]] = {part: [] for part in work}
        for _ in range(rounds):
            for part, compute in work.items():
                started = time.perf_counter()
                compute()
                seconds[part].append(time.perf_counter() - started)
        passes, exact, rounded = (1000 * statistics.median(times) for times in seconds.values())
        print(
            f"{name:17} passes {passes:7.1f} ms   float32 {exact:6.1f} ms   bfloat16 {rounded:6.1f} ms"
            f"   ratio of steps {(passes + rounded) / (passes + exact):.3f}"
        )


def block_matrices(config: ModelConfig) -> list[Tensor]:
    """Make random batches of the matrices that Muon updates: (M, rows, columns) for each shape in the blocks."""
    width, hidden = config.width, config.mlp_width
    counts: dict[tuple[int, int], int] = defaultdict(int)
    for shape in ((3 * width, width), (width, width), (hidden, width), (width, hidden)):
        counts[shape] += config.depth
    return [torch.randn(count, *shape) for shape, count in counts.items()]


def orthogonalise_all(matrices: list[Tensor], precision: torch.dtype) -> None:
    """Orthogonalise all matrices, which takes most of the time of a Muon step."""
    for batch in matrices:
        newton_schulz(batch.to(precision)).to(batch.dtype)


def forward_and_backward(config: ModelConfig, batch: int) -> Callable[[], None]:
    """Return a function that computes the gradients of a batch of noise."""
    model = VisionTransformer(config)
    images = torch.randn(batch, config.in_channels, *config.image_size)
    labels = torch.zeros(batch, dtype=torch.int64)

    def compute() -> None:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()

    return compute


if __name__ == "__main__":
    main()
